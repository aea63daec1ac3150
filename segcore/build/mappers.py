"""INPUT.DATASET_MAPPER_NAME: what each mapper of the old repository makes targets of."""

TARGETS = {
    "mask_former_semantic": "semantic",
    "mask_former_panoptic": "panoptic",
    "mask_former_instance": "instance",
    "coco_instance_lsj": "instance",
    "default": "instance",  # detectron2's own, for detectors
    "coco_panoptic_lsj": "panoptic",
}
