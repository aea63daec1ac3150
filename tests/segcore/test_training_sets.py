"""What is read for a training, and what does not go together."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from tiny import make_dataset

from segcore.build.data import catalog, train_batches, train_metadata, train_records
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_dataset(folder, 2)
    return folder


MODEL = Path(__file__).parents[2] / "configs/tiny/panoptic_tiny.yaml"
ENTITIES = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true",
            "ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]  # fmt: skip


def records(folder, mapper, *names, opts=(), **of_the_task):
    given = ["DATASETS.CATALOGS", f"[{folder}/tiny.yaml]", "DATASETS.TRAIN", json.dumps(names)]
    cfg = load_config(MODEL, [*given, "INPUT.DATASET_MAPPER_NAME", mapper, *opts])
    sets = catalog(cfg)
    with torch.device("meta"):
        task = build_task(cfg, train_metadata(cfg, sets))
    return train_records(cfg, replace(task, **of_the_task), sets)


@pytest.mark.parametrize(
    ("mapper", "name"),
    [
        ("mask_former_semantic", "tiny_semantic"),
        ("mask_former_semantic", "tiny_panoptic"),
        ("mask_former_panoptic", "tiny_panoptic"),
        ("mask_former_instance", "tiny_instances"),
        ("coco_panoptic_lsj", "tiny_instances"),
    ],
)
def test_mappers_and_the_data_that_they_can_read(tiny, mapper, name):
    assert len(records(tiny, mapper, name)) == 2


@pytest.mark.parametrize(
    "mapper",
    ["mask_former_instance", "mask_former_panoptic", "coco_instance_lsj", "coco_panoptic_lsj"],
)
def test_segments_cannot_be_had_from_label_images(tiny, mapper):
    message = rf"MAPPER_NAME {mapper} needs segments, but tiny_semantic .* mask_former_semantic"
    with pytest.raises(ConfigError, match=message):
        records(tiny, mapper, "tiny_semantic")
    with pytest.raises(ConfigError, match=r"CropFormer .* needs segments, but tiny_semantic"):
        records(tiny, mapper, "tiny_semantic", opts=ENTITIES)


def test_labels_cannot_be_had_from_coco_instances(tiny):
    message = r"DATASET_MAPPER_NAME mask_former_semantic needs label images.* mask_former_instance"
    with pytest.raises(ConfigError, match=message):
        records(tiny, "mask_former_semantic", "tiny_instances")


@pytest.mark.parametrize("name", ["tiny_semantic", "tiny_instances"])
def test_a_task_that_needs_either_reads_both(tiny, name):
    for mapper in ("mask_former_semantic", "mask_former_instance"):
        assert len(records(tiny, mapper, name, needs="either")) == 2


def test_label_images_of_other_values_are_refused(tiny, tmp_path):
    paths = f"{{images: {tiny}/images, annotations: {tiny}/labels}}"
    names = "names: [box, disc, ground]"
    more = {"same": "ignore_label: 255", "mapped": "label_map: {10: 0}", "other": "ignore_label: 9"}
    blocks = [
        f"- reader: label_png\n  classes: {{{names}, {extra}}}\n  names: {{{name}: {paths}}}\n"
        for name, extra in more.items()
    ]
    (tmp_path / "tiny.yaml").write_text("".join(blocks))
    assert len(records(tmp_path, "mask_former_semantic", "same", "same")) == 4
    for other in ("mapped", "other"):
        with pytest.raises(ConfigError, match=f"{other} and same have label images of different"):
            records(tmp_path, "mask_former_semantic", "same", other)


@pytest.mark.parametrize("filtered", ["true", "false"])
def test_a_list_of_images_is_nothing_to_train_on(tiny, tmp_path, filtered):
    content = json.loads((tiny / "instances.json").read_text())
    del content["annotations"]
    (tmp_path / "x.json").write_text(json.dumps(content))
    opts = ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", filtered]
    with pytest.raises(DataError, match="nothing to train on"):
        records(tiny, "mask_former_instance", f"{tmp_path}/x.json@{tiny}/images", opts=opts)


@pytest.mark.parametrize(
    ("sampler", "threshold"),
    [("RepeatFactorTrainingSampler", "1"), ("ClassBalancedDataset", "0.6")],
)
def test_images_of_rare_classes_are_seen_more_often(tiny, tmp_path, sampler, threshold):
    """Boxes in both images, a disc in the second one: its share is 1/2, so it is seen twice.

    A threshold of .6 makes that 1.2 times, which the other sampler rounds up.
    """
    content = json.loads((tiny / "instances.json").read_text())
    first, second = [image["id"] for image in content["images"]]
    one = {"segmentation": [[8, 8, 56, 8, 56, 56, 8, 56]], "iscrowd": 0}
    content["annotations"] = [
        one | {"id": i, "image_id": image, "category_id": content["categories"][k]["id"]}
        for i, (image, k) in enumerate([(first, 0), (second, 0), (second, 1)], 1)
    ]
    (tmp_path / "x.json").write_text(json.dumps(content))
    opts = ["DATALOADER.SAMPLER_TRAIN", sampler, "SOLVER.IMS_PER_BATCH", "1"]
    opts += ["DATALOADER.REPEAT_THRESHOLD", threshold, "DATALOADER.REPEAT_SQRT", "false"]
    opts += ["DATALOADER.NUM_WORKERS", "0", "INPUT.DATASET_MAPPER_NAME", "mask_former_instance"]
    names = json.dumps([f"{tmp_path}/x.json@{tiny}/images"])
    cfg = load_config(MODEL, [*opts, "DATASETS.TRAIN", names, "DATASETS.CATALOGS", "[]"])
    sets = catalog(cfg)
    with torch.device("meta"):
        task = build_task(cfg, train_metadata(cfg, sets))
    batches = train_batches(cfg, task, sets, Fabric(accelerator="cpu", devices=1))
    seen = [next(batches).records[0].id for _ in range(12)]
    assert seen.count(first) == 4
    assert seen.count(second) == 8
    with pytest.raises(ConfigError, match="SAMPLER_TRAIN"):
        load_config(MODEL, ["DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"])
