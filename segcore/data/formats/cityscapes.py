"""Cityscapes from its own files: leftImg8bit and gtFine, nothing has to be prepared."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.data.folders import Spec, folder_of
from segcore.data.formats.coco import class_of, panoptic_file, panoptic_segments
from segcore.data.images import THREADS, WHERE, image_sizes
from segcore.errors import DataError
from segcore.labels import read_ids
from segcore.structures import Frame, Metadata, PngId, Record, Segment, Size

FIRST_OBJECT = 1000  # label * 1000 + number is an object, less a region or a group of objects


def read_cityscapes_semantic(spec: Spec) -> Iterator[Record]:
    """Label ids of *_labelIds.png; Metadata.label_map makes them classes."""
    images = _images(spec)
    for image, size in zip(images, image_sizes(images), strict=True):
        yield Record(_name(image), size, (Frame(image, semantic=_truth(spec, image, "labelIds")),))


def read_cityscapes_instances(spec: Spec) -> Iterator[Record]:
    """Things of *_instanceIds.png; groups (ids under 1000) are crowds."""
    return _from_ids(spec, semantic=False)


def read_cityscapes_panoptic(spec: Spec) -> Iterator[Record]:
    """Things and stuff, from createPanopticImgs' files or else from *_instanceIds.png."""
    made = spec.annotations.parent / f"cityscapes_panoptic_{spec.annotations.name}"
    if made.is_dir() and made.with_suffix(".json").is_file():
        return _from_panoptic(spec, made)
    return _from_ids(spec, semantic=True)


def _images(spec: Spec) -> list[Path]:
    found = folder_of(spec.images, "folder of Cityscapes images").glob("*/*_leftImg8bit.png")
    images = sorted(found)
    if not images:
        raise DataError(f"{spec.images}: has no CITY/*_leftImg8bit.png; {WHERE}")
    if spec.annotations.name != "test":  # whose annotations are secret
        folder_of(spec.annotations, "folder of Cityscapes annotations")
    return images


def _name(image: Path) -> str:
    return image.name.removesuffix("_leftImg8bit.png")


def _truth(spec: Spec, image: Path, kind: str) -> Path:
    return spec.annotations / image.parent.name / f"{_name(image)}_gtFine_{kind}.png"


def _from_ids(spec: Spec, semantic: bool) -> Iterator[Record]:
    images = _images(spec)
    pngs = [_truth(spec, image, "instanceIds") for image in images]
    if not any(png.exists() for png in pngs):
        for image, size in zip(images, image_sizes(images), strict=True):
            yield Record(_name(image), size, (Frame(image),))
        return
    with ThreadPoolExecutor(THREADS) as pool:  # inflating 3,000 PNGs is the work
        for image, png, found in zip(images, pngs, pool.map(_count, pngs), strict=True):
            segments = _segments(found, spec.metadata)
            labels = _truth(spec, image, "labelIds") if semantic else None
            yield Record(_name(image), found.size, (Frame(image, segments, png, labels),))


@dataclass(frozen=True, slots=True)
class _Found:
    """What one *_instanceIds.png shows."""

    size: Size
    ids: list[int]
    areas: list[int]  # pixels of each


def _count(png: Path) -> _Found:
    ids = read_ids(png)  # (H, W)
    areas = np.bincount(ids.ravel())
    found = np.flatnonzero(areas)
    return _Found((ids.shape[0], ids.shape[1]), found.tolist(), areas[found].tolist())


def _segments(found: _Found, metadata: Metadata) -> tuple[Segment, ...]:
    known, segments = class_of(metadata), []
    for number, area in zip(found.ids, found.areas, strict=True):
        label = number // FIRST_OBJECT if number >= FIRST_OBJECT else number
        if label in known:
            crowd = number < FIRST_OBJECT and metadata.is_thing[known[label]]
            segments.append(Segment(known[label], PngId(number), crowd, float(area)))
    return tuple(segments)


def _from_panoptic(spec: Spec, folder: Path) -> Iterator[Record]:
    path, known = folder.with_suffix(".json"), class_of(spec.metadata)
    content = panoptic_file(path)
    for number, (_, size) in content.images.items():
        image = spec.images / str(number).split("_")[0] / f"{number}_leftImg8bit.png"
        for where, png, entries in content.annotations(number):
            segments = panoptic_segments(entries, known, f"{path}: {where}", spec.metadata)
            frame = Frame(image, segments, folder / png, _truth(spec, image, "labelIds"))
            yield Record(str(number), size, (frame,))
