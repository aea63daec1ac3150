"""COCO panoptic JSON and its PNGs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore.data.folders import first_with, folder_of, image_folder
from segcore.data.formats.coco_file import CocoFile, ImageId, class_of, unknown_category
from segcore.data.formats.coco_head import (
    classes_of_file,
    head_of,
    image_folders,
    is_panoptic,
)
from segcore.data.formats.coco_writing import categories, image_entry, numbered
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.image_names import ImageFiles
from segcore.data.images import IMAGE_SUFFIXES
from segcore.data.parsing.values import flag, identity, listing, real, text, typed, whole
from segcore.data.problem import NO_ANNOTATION, Problem, Report
from segcore.data.still_segments import painted
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, PngId, Record, Segment
from segcore.whole_file import whole_file

LARGEST_ID = (1 << 24) - 1


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """An image without an annotation is left out; of two annotations the first counts."""
    path = source.annotations
    content = panoptic_file(path, source.problem)
    file_of = ImageFiles(image_folder(source.images), path)
    if not content.annotated:
        for image, (name, size) in content.images.items():
            yield Record(image, size, (Frame(file_of(name)),))
        return
    pngs = folder_of(source.more.get("panoptic", _pngs_beside(path)), "folder of panoptic PNGs")
    png_of = ImageFiles(pngs, path)
    labels, known = source.more.get("semantic"), class_of(metadata)
    for image, (name, size) in content.images.items():
        annotations = content.annotations(image)
        if not annotations:
            message = f"{path}: image {image} has no annotation; it is left out"
            content.report(message, NO_ANNOTATION, image=image, effect="oddity")
            continue
        if len(annotations) > 1:
            message = f"{path}: image {image} has {len(annotations)} annotations; expected one"
            content.report(message, "annotations of one image", image=image)
        png = _png_of(annotations[0][1], pngs)
        segments = panoptic_segments(content, image, metadata, known)
        semantic = None if labels is None else labels / Path(png).name
        yield Record(image, size, (Frame(file_of(name), segments, png_of(png), semantic),))


def _png_of(name: str, folder: Path) -> str:
    """The PNG that an annotation means: EntitySeg names the image, up to its first dot."""
    if name.lower().endswith(".png"):
        return name
    stem = name
    while stem.lower().endswith(IMAGE_SUFFIXES):
        stem = stem.rpartition(".")[0]
    short = name.split(".")[0] + ".png"
    if f"{stem}.png" != short and not (folder / f"{stem}.png").exists():
        return short if (folder / short).exists() else f"{stem}.png"
    return f"{stem}.png"


def panoptic_file(path: Path, problem: Report) -> CocoFile:
    """Of each annotation: its image, its PNG, and (category, id, crowd, area) by segment."""

    def values(entry: Any) -> tuple[Any, ...]:
        image = typed(entry, "image_id", identity, "an annotation", path)
        what = f"image {image}"
        listed = typed(entry, "segments_info", listing, what, path)
        png = typed(entry, "file_name", text, what, path)
        return image, png, tuple(_segments(listed, image, path, problem))

    return CocoFile(path, values, what="the annotation of image", problem=problem)


def _segments(
    listed: list[Any], image: ImageId, path: Path, problem: Report
) -> Iterator[tuple[Any, ...]]:
    what, seen = f"a segment of image {image}", set[int]()
    for entry in listed:
        try:
            number = typed(entry, "id", _png_id, what, path)
            if number in seen:
                raise DataError(
                    f"{path}: image {image} lists segment {number} twice, so nobody knows what its"
                    " pixels are; give each segment an id of its own"
                )
            seen.add(number)
            yield (
                typed(entry, "category_id", whole, what, path),
                number,
                typed(entry, "iscrowd", flag, what, path, default=False),
                typed(entry, "area", real, what, path, default=None),
            )
        except DataError as fault:
            problem(Problem(message=str(fault), path=path, kind="segment entry", image=image))


def _png_id(value: Any) -> int:
    if 0 <= (number := whole(value)) <= LARGEST_ID:
        return number
    raise ValueError(f"0 to {LARGEST_ID}, what three bytes of a PNG hold")


def panoptic_segments(
    content: CocoFile, image: ImageId, metadata: Metadata, known: dict[int, int]
) -> tuple[Segment, ...]:
    """Segments of an image's panoptic PNG, without those of unknown categories.

    Args:
        known: from ids in the file to classes.
    """
    segments = []
    for category, png_id, crowd, area in content.annotations(image)[0][2]:
        if category in known:
            segments.append(Segment(known[category], PngId(png_id), crowd, area))
            continue
        message = unknown_category(category, f"{content.path}: image {image}", metadata)
        content.report(message, "category", image=image)
    return tuple(segments)


def _pngs_beside(path: Path) -> Path:
    """`X_panoptic` or `panoptic_X` beside X.json, where images have X; else X, as in COCO."""
    beside = (path.with_name(name) for name in (f"{path.stem}_panoptic", f"panoptic_{path.stem}"))
    return next((folder for folder in beside if folder.is_dir()), path.with_suffix(""))


def _images_beside(path: Path) -> Path:
    """Not the folder of PNGs, which may have the names of the images."""
    folders = [folder for folder in image_folders(path) if folder != _pngs_beside(path)]
    return first_with([head_of(path).image or ""], folders, path)


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`annotations/panoptic_<split>.json` and its PNGs; of what overlaps the smaller is seen."""
    path = goal.folder / "annotations" / f"panoptic_{goal.split}.json"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, record in numbered(records):
        images.append(image_entry(image, record, goal))
        ids, name = painted(record, goal.lost), f"{goal.stem(record)}.png"
        png = path.with_suffix("") / name
        png.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], 2).astype(np.uint8)).save(
            png
        )
        areas = np.bincount(ids.ravel())
        infos = [
            {
                "id": number,
                "category_id": metadata.dataset_ids[segment.category],
                "iscrowd": int(segment.crowd),
                "area": int(areas[number]),
            }
            for number, segment in enumerate(record.frames[0].segments, 1)
            if number < len(areas) and areas[number]
        ]
        annotations.append({"image_id": image, "file_name": name, "segments_info": infos})
    content = {"images": images, "annotations": annotations, "categories": categories(metadata)}
    with whole_file(path, "w") as stream:
        json.dump(content, stream)
    return path


FORMAT = Format(
    name="coco_panoptic",
    read=read,
    recognises=is_panoptic,
    images_beside=_images_beside,
    classes=lambda source: classes_of_file(source.annotations),
    annotated=lambda source: head_of(source.annotations).annotated,
    evaluators=("panoptic", "instance", "boundary", "semantic"),
    more=("panoptic", "semantic", "instances"),
    first_id=1,
    write=write,
)
