"""From annotation files to records, one function a format; READERS names them.

Add a format: a function `read_x(spec) -> Iterator[Record]` and one line in READERS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from segcore.data.readers_cityscapes import (
    read_cityscapes_instances,
    read_cityscapes_panoptic,
    read_cityscapes_semantic,
)
from segcore.data.readers_coco import read_coco_instances, read_coco_panoptic
from segcore.data.sources import (
    WHERE,
    Spec,
    folder_of,
    image_folder,
    image_sizes,
    pairs_by_stem,
)
from segcore.errors import DataError
from segcore.structures import Frame, Record


def read_label_png(spec: Spec) -> Iterator[Record]:
    """A folder of images and one of label images with the same stems."""
    labels = folder_of(spec.annotations, "folder of label images")
    pairs = pairs_by_stem(labels, image_folder(spec.images))
    sizes = image_sizes([image for _, image in pairs.values()])
    for (stem, (label, image)), size in zip(pairs.items(), sizes, strict=True):
        yield Record(stem, size, (Frame(image, semantic=label),))


def read_label_list(spec: Spec) -> Iterator[Record]:
    """A text file of `IMAGE LABELS` lines; labels lie in the folder that `semantic` names."""
    if spec.semantic is None:
        raise DataError(f"{spec.annotations}: the catalogue entry needs `semantic: FOLDER`")
    try:
        lines = spec.annotations.read_text().splitlines()
    except OSError:
        raise DataError(f"{spec.annotations}: list of images not found; {WHERE}") from None
    folder = image_folder(spec.images)
    pairs = [line.rsplit(" ", 1) for line in lines if line.strip()]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise DataError(f"{spec.annotations}: {wrong[0]} is not `IMAGE LABELS`, with one space")
    sizes = image_sizes([folder / image for image, _ in pairs])
    for (image, label), size in zip(pairs, sizes, strict=True):
        frame = Frame(folder / image, semantic=spec.semantic / label)
        yield Record(Path(image).with_suffix("").as_posix(), size, (frame,))


READERS: dict[str, Callable[[Spec], Iterator[Record]]] = {
    "coco_instances": read_coco_instances,
    "coco_panoptic": read_coco_panoptic,
    "label_png": read_label_png,
    "label_list": read_label_list,
    "cityscapes_semantic": read_cityscapes_semantic,
    "cityscapes_instances": read_cityscapes_instances,
    "cityscapes_panoptic": read_cityscapes_panoptic,
}
