"""LVIS, v0.5 and v1: COCO's layout, and which classes were looked for in an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from segcore.data.class_list import ClassList
from segcore.data.folders import first_with, image_folder
from segcore.data.formats.coco_annotations import values_of
from segcore.data.formats.coco_file import CocoFile, class_of
from segcore.data.formats.coco_head import (
    ABSENT,
    head_of,
    image_folders,
    image_name,
    looks_like_json,
)
from segcore.data.formats.coco_instances import records_of
from segcore.data.formats.format import Format, Source
from segcore.data.parsing.class_list import class_list
from segcore.data.parsing.values import typed, whole
from segcore.errors import DataError
from segcore.structures import Metadata, Record

PARTLY = "not_exhaustive_category_ids"


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images lie in train2017, val2017 and test2017 below the folder, as their URLs say."""
    path, known = source.annotations, class_of(metadata)
    content = CocoFile(
        path,
        values_of(path),
        what="annotation",
        problem=source.problem,
        image_values=_image_values(path),
    )
    folder = cache(lambda name: image_folder(source.images / name))

    def file_of(name: str) -> Path:
        split, _, file = name.rpartition("/")
        return folder(split) / file

    for record in records_of(content, metadata, file_of):
        absent, partly = content.more[record.id]
        # of a class that the metadata lacks there are no predictions
        yield replace(
            record,
            negatives=tuple(known[i] for i in absent if i in known),
            not_exhaustive=tuple(known[i] for i in partly if i in known),
        )


def _image_values(path: Path) -> Callable[[Any, str], tuple[str, Any]]:
    """Of an image: its name, and the ids of absent and of not exhaustively annotated classes."""

    def values(entry: Any, what: str) -> tuple[str, Any]:
        name = image_name(entry)
        if name is None:
            raise DataError(f"{path}: {what} has neither coco_url nor file_name")
        return name, tuple(
            typed(entry, key, _ids, what, path, default=()) for key in (ABSENT, PARTLY)
        )

    return values


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of category ids")
    return tuple(whole(each) for each in value)


def _classes(source: Source) -> ClassList:
    """By id, called by their first synonym, as published."""
    path = source.annotations
    ordered = sorted(head_of(path).categories, key=lambda c: c["id"])
    content: dict[str, Any] = {"names": [(c.get("synonyms") or [c["name"]])[0] for c in ordered]}
    content["ids"] = [c["id"] for c in ordered]
    if all("frequency" in c for c in ordered):
        content["frequencies"] = [c["frequency"] for c in ordered]
    return class_list(content, str(path))


def _recognises(path: Path) -> bool:
    if not looks_like_json(path):
        return False
    try:
        return head_of(path).federated
    except DataError:
        return False


def _images_beside(path: Path) -> Path:
    folders = [path.parent / "../coco", path.parent / "coco", *image_folders(path)]
    return first_with([head_of(path).image or ""], folders, path)


FORMAT = Format(
    name="lvis",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    annotated=lambda source: head_of(source.annotations).annotated,
    evaluators=("lvis", "boundary"),
    first_id=1,
)
