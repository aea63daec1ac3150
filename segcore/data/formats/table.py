"""All file formats, by the name that a catalogue entry gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from segcore.data.folders import Spec
from segcore.data.formats.cityscapes import (
    read_cityscapes_instances,
    read_cityscapes_panoptic,
    read_cityscapes_semantic,
)
from segcore.data.formats.coco import read_coco_instances, read_coco_panoptic
from segcore.data.formats.label_images import read_label_list, read_label_png
from segcore.structures import Record

READERS: dict[str, Callable[[Spec], Iterator[Record]]] = {
    "coco_instances": read_coco_instances,
    "coco_panoptic": read_coco_panoptic,
    "label_png": read_label_png,
    "label_list": read_label_list,
    "cityscapes_semantic": read_cityscapes_semantic,
    "cityscapes_instances": read_cityscapes_instances,
    "cityscapes_panoptic": read_cityscapes_panoptic,
}
