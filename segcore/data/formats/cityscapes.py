"""Cityscapes from its own files: leftImg8bit and gtFine, nothing has to be prepared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.data.folders import folder_of
from segcore.data.formats.coco_file import class_of
from segcore.data.formats.coco_panoptic import panoptic_file, panoptic_segments
from segcore.data.formats.format import Format, Source
from segcore.data.images import WHERE, image_sizes, in_threads
from segcore.errors import DataError
from segcore.labels import read_ids
from segcore.structures import Frame, Metadata, PngId, Record, Segment, Size

FIRST_OBJECT = 1000  # label * 1000 + number is an object, less a region or a group of objects


def read_semantic(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Label ids of *_labelIds.png; Metadata.label_map makes them classes."""
    for image, size in _sized(source):
        yield Record(
            _name(image), size, (Frame(image, semantic=_truth(source, image, "labelIds")),)
        )


def read_instances(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Things of *_instanceIds.png; groups (ids under 1000) are crowds."""
    return _from_ids(source, metadata, labels=False)


def read_panoptic(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Things and stuff, from createPanopticImgs' files or else from *_instanceIds.png."""
    made = source.annotations.parent / f"cityscapes_panoptic_{source.annotations.name}"
    if made.is_dir() and made.with_suffix(".json").is_file():
        return _from_panoptic(source, metadata, made)
    return _from_ids(source, metadata, labels=True)


def _images(source: Source) -> list[Path]:
    folder = folder_of(source.images, "folder of Cityscapes images")
    images = sorted(folder.glob("*/*_leftImg8bit.png"))
    if not images:
        raise DataError(f"{source.images}: has no CITY/*_leftImg8bit.png; {WHERE}")
    if source.annotations.name != "test":  # whose annotations are secret
        folder_of(source.annotations, "folder of Cityscapes annotations")
    return images


def _sized(source: Source) -> Iterator[tuple[Path, Size]]:
    images = _images(source)
    for image, size in zip(images, image_sizes(images, source.problem), strict=True):
        if size is not None:
            yield image, size


def _name(image: Path) -> str:
    return image.name.removesuffix("_leftImg8bit.png")


def _truth(source: Source, image: Path, kind: str) -> Path:
    return source.annotations / image.parent.name / f"{_name(image)}_gtFine_{kind}.png"


def _from_ids(source: Source, metadata: Metadata, *, labels: bool) -> Iterator[Record]:
    """Args: labels: whether the label image belongs to the record."""
    images = _images(source)
    pngs = [_truth(source, image, "instanceIds") for image in images]
    if not any(png.exists() for png in pngs):
        for image, size in _sized(source):
            yield Record(_name(image), size, (Frame(image),))
        return
    contents = in_threads(_content, pngs, source.problem)
    for image, png, content in zip(images, pngs, contents, strict=True):
        if content is not None:
            segments = _segments(content, metadata)
            semantic = _truth(source, image, "labelIds") if labels else None
            yield Record(_name(image), content.size, (Frame(image, segments, png, semantic),))


@dataclass(frozen=True, slots=True)
class _Content:
    """What one *_instanceIds.png shows."""

    size: Size
    ids: list[int]
    areas: list[int]  # pixels of each


def _content(png: Path) -> _Content:
    ids = read_ids(png)  # (H, W)
    areas = np.bincount(ids.ravel())
    numbers = np.flatnonzero(areas)
    return _Content((ids.shape[0], ids.shape[1]), numbers.tolist(), areas[numbers].tolist())


def _segments(content: _Content, metadata: Metadata) -> tuple[Segment, ...]:
    known, segments = class_of(metadata), []
    for number, area in zip(content.ids, content.areas, strict=True):
        label = number // FIRST_OBJECT if number >= FIRST_OBJECT else number
        if label in known:
            crowd = number < FIRST_OBJECT and metadata.is_thing[known[label]]
            segments.append(Segment(known[label], PngId(number), crowd, float(area)))
    return tuple(segments)


def _from_panoptic(source: Source, metadata: Metadata, folder: Path) -> Iterator[Record]:
    content = panoptic_file(folder.with_suffix(".json"), source.problem)
    known = class_of(metadata)
    for number, (_, size) in content.images.items():
        annotations = content.annotations(number)
        if annotations:
            image = source.images / str(number).split("_")[0] / f"{number}_leftImg8bit.png"
            segments = panoptic_segments(content, number, metadata, known)
            png, labels = folder / annotations[0][1], _truth(source, image, "labelIds")
            yield Record(str(number), size, (Frame(image, segments, png, labels),))


def _no_path(path: Path) -> Path:
    raise DataError(f"{path}: name the folder of its images: {path}@.../leftImg8bit/{path.name}")


# a path does not say which of the three is meant, and no file of Cityscapes lists the classes
SEMANTIC = Format(
    name="cityscapes_semantic",
    read=read_semantic,
    recognises=lambda path: False,
    images_beside=_no_path,
    evaluators=("semantic",),
    things=False,
)
INSTANCES = Format(
    name="cityscapes_instances",
    read=read_instances,
    recognises=lambda path: False,
    images_beside=_no_path,
    evaluators=("instance", "boundary"),
)
PANOPTIC = Format(
    name="cityscapes_panoptic",
    read=read_panoptic,
    recognises=lambda path: False,
    images_beside=_no_path,
    evaluators=("panoptic", "instance", "boundary", "semantic"),
    more=("instances",),
)
