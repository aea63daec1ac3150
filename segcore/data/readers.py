"""From annotation files to records, one function a format; READERS names them.

Add a format: a function `read_x(spec) -> Iterator[Record]` and one line in READERS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore import masks
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, PngId, Polygons, Record, Rle, Segment, Size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Spec:
    """Where the files of one data set lie, and what its classes are."""

    images: Path
    annotations: Path
    metadata: Metadata
    panoptic: Path | None = None
    semantic: Path | None = None


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an error that says what the file is instead."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path}: annotation file not found; data sets lie below DETECTRON2_DATASETS"
            " (default ./datasets), see datasets/README.md"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); is the download complete?") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with images and annotations at the top")
    return content


def _table(content: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    if key not in content:
        raise DataError(f"{path}: has no {key!r}; found {sorted(content)}; expected COCO's layout")
    return content[key]


def _get(entry: dict[str, Any], key: str, what: str, path: Path) -> Any:
    if key not in entry:
        raise DataError(f"{path}: {what} has no {key!r}; it has {sorted(entry)}")
    return entry[key]


def _classes(metadata: Metadata) -> dict[int, int]:
    return {number: k for k, number in enumerate(metadata.dataset_ids)}


def _class(number: int, known: dict[int, int], where: str, metadata: Metadata) -> int:
    if number not in known:
        ids = list(known)
        raise DataError(
            f"{where} has category {number}; {metadata.name} knows {len(ids)} ids from"
            f" {min(ids)} to {max(ids)}; correct the file, or the classes of the catalogue entry"
        )
    return known[number]


def _images(content: dict[str, Any], path: Path) -> dict[int | str, tuple[str, Size]]:
    found: dict[int | str, tuple[str, Size]] = {}
    for entry in _table(content, "images", path):
        number = _get(entry, "id", "an image", path)
        what = f"image {number}"
        if number in found:
            raise DataError(f"{path}: {what} is listed twice; image ids must be unique")
        size = tuple(int(_get(entry, key, what, path)) for key in ("height", "width"))
        found[number] = (_get(entry, "file_name", what, path), (size[0], size[1]))
    return found


def read_coco_instances(spec: Spec) -> Iterator[Record]:
    """COCO detection JSON: polygons, both forms of RLE, crowds; images without objects stay."""
    path, known = spec.annotations, _classes(spec.metadata)
    content = load_json(path)
    images = _images(content, path)
    segments: dict[int | str, list[Segment]] = {}
    for entry in _table(content, "annotations", path):
        what = f"annotation {entry.get('id', '?')}"
        image = _get(entry, "image_id", what, path)
        if image not in images:
            raise DataError(f"{path}: {what} belongs to image {image}, which is not listed")
        where = f"{path}: image {image}"
        category = _class(_get(entry, "category_id", what, path), known, where, spec.metadata)
        shape = _shape(_get(entry, "segmentation", what, path), images[image][1], what, path)
        if shape is not None:
            crowd, area = bool(entry.get("iscrowd", 0)), entry.get("area")
            segments.setdefault(image, []).append(Segment(category, shape, crowd, area))
    del content
    for number, (name, size) in images.items():
        frame = Frame(spec.images / name, tuple(segments.pop(number, ())))
        yield Record(number, size, (frame,))


def _shape(value: Any, size: Size, what: str, path: Path) -> Polygons | Rle | None:
    if isinstance(value, list):
        rings = tuple(tuple(ring) for ring in value if len(ring) >= 6 and len(ring) % 2 == 0)
        return Polygons(rings) if rings else None  # nothing but points and lines
    if not isinstance(value, dict) or not {"counts", "size"} <= value.keys():
        raise DataError(f"{path}: {what} has a segmentation that is neither polygons nor RLE")
    if tuple(value["size"]) != size:
        raise DataError(
            f"{path}: {what} has a mask of size {value['size']}, its image is {list(size)}"
            " (height, width)"
        )
    counts = value["counts"]
    if isinstance(counts, list):
        return masks.compress(counts, size)
    return {"size": list(size), "counts": counts.encode() if isinstance(counts, str) else counts}


def read_coco_panoptic(spec: Spec) -> Iterator[Record]:
    """COCO panoptic JSON and its PNGs."""
    path, known = spec.annotations, _classes(spec.metadata)
    content = load_json(path)
    images = _images(content, path)
    folder = spec.panoptic or path.with_suffix("")
    for entry in _table(content, "annotations", path):
        number = _get(entry, "image_id", "an annotation", path)
        if number not in images:
            raise DataError(f"{path}: an annotation belongs to image {number}, which is not listed")
        where = f"{path}: image {number}"
        segments = tuple(
            Segment(
                _class(_get(s, "category_id", where, path), known, where, spec.metadata),
                PngId(int(_get(s, "id", where, path))),
                bool(s.get("iscrowd", 0)),
                s.get("area"),
            )
            for s in _get(entry, "segments_info", where, path)
        )
        png = _get(entry, "file_name", where, path)
        name, size = images[number]
        semantic = None if spec.semantic is None else spec.semantic / Path(png).name
        frame = Frame(spec.images / name, segments, folder / png, semantic)
        yield Record(number, size, (frame,))


def read_label_png(spec: Spec) -> Iterator[Record]:
    """A folder of images and one of label images with the same stems."""
    labels = _by_stem(spec.annotations)
    images = _by_stem(spec.images)
    missing = sorted(labels.keys() - images.keys())
    if missing or not labels:
        raise DataError(
            f"{spec.annotations}: {len(missing)} of {len(labels)} label images have no image with"
            f" the same name in {spec.images}"
            + (f", first: {labels[missing[0]]}" if missing else "")
        )
    for stem, label in sorted(labels.items()):
        yield Record(stem, image_size(images[stem]), (Frame(images[stem], semantic=label),))


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder}: folder not found; data sets lie below DETECTRON2_DATASETS (default"
            " ./datasets), see datasets/README.md"
        )
    files = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in files}


def image_size(path: Path) -> Size:
    """(height, width) from the file's head, as the image is to be seen."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    return (width, height) if turned else (height, width)


def _cityscapes(spec: Spec) -> Iterator[tuple[str, Path, Path]]:
    """Name, image, and the stem of its annotation files."""
    if not spec.images.is_dir():
        raise DataError(f"{spec.images}: folder not found; see datasets/README.md for Cityscapes")
    for image in sorted(spec.images.glob("*/*_leftImg8bit.png")):
        name = image.name.removesuffix("_leftImg8bit.png")
        yield name, image, spec.annotations / image.parent.name / f"{name}_gtFine"


def read_cityscapes_semantic(spec: Spec) -> Iterator[Record]:
    """Label ids of Cityscapes' own *_labelIds.png; Metadata.label_map makes them classes."""
    for name, image, stem in _cityscapes(spec):
        label = stem.with_name(f"{stem.name}_labelIds.png")
        yield Record(name, image_size(image), (Frame(image, semantic=label),))


def read_cityscapes_instances(spec: Spec) -> Iterator[Record]:
    """Things of *_instanceIds.png; groups (ids under 1000) are crowds."""
    return _cityscapes_ids(spec, things_only=True)


def read_cityscapes_panoptic(spec: Spec) -> Iterator[Record]:
    """Things and stuff of *_instanceIds.png; groups of things are crowds."""
    return _cityscapes_ids(spec, things_only=False)


def _cityscapes_ids(spec: Spec, things_only: bool) -> Iterator[Record]:
    known = _classes(spec.metadata)
    for name, image, stem in _cityscapes(spec):
        png = stem.with_name(f"{stem.name}_instanceIds.png")
        semantic = stem.with_name(f"{stem.name}_labelIds.png")
        segments = []
        if png.exists():  # the test split has none
            for number, area in zip(
                *np.unique(masks.read_ids(png), return_counts=True), strict=True
            ):
                label = int(number) // 1000 if number >= 1000 else int(number)
                if label in known:
                    k = known[label]
                    crowd = bool(number < 1000 and spec.metadata.is_thing[k])
                    segments.append(Segment(k, PngId(int(number)), crowd, float(area)))
        frame = Frame(image, tuple(segments), png, None if things_only else semantic)
        yield Record(name, image_size(image), (frame,))


READERS: dict[str, Callable[[Spec], Iterator[Record]]] = {
    "coco_instances": read_coco_instances,
    "coco_panoptic": read_coco_panoptic,
    "label_png": read_label_png,
    "cityscapes_semantic": read_cityscapes_semantic,
    "cityscapes_instances": read_cityscapes_instances,
    "cityscapes_panoptic": read_cityscapes_panoptic,
}
