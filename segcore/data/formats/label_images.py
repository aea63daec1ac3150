"""Folders of label images, and lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segcore.data.folders import Spec, folder_of, image_folder, pairs_by_stem
from segcore.data.images import WHERE, image_sizes
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
