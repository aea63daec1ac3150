"""labelme: a JSON for each image, with polygons, masks and circles.

As a path, the folder of the JSONs, or one of them. Classes are those of a classes.json or
labels.txt beside them, or else the labels that occur. Shapes with the same `group_id` and label are
one object.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore.data.class_list import CLASS_FILES, ClassList, class_files
from segcore.data.folders import files_below, first_with, image_folder
from segcore.data.formats.class_file import class_file_in, write_class_file
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.formats.tool_shapes import (
    Part,
    ToolShapes,
    box_in,
    check_area,
    edge,
    ellipse,
    joined,
    placed,
    ring_of,
)
from segcore.data.image_names import ImageFiles
from segcore.data.images import IMAGE_SUFFIXES, image_size
from segcore.data.parsing.json_file import head_of_json, read_json
from segcore.data.parsing.text_file import read_text
from segcore.data.parsing.values import get, listing, text, typed
from segcore.data.problem import NO_MASK, OTHER_SHAPE
from segcore.errors import DataError
from segcore.image_file import IMAGE_ERRORS
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size

LABELS = "labels.txt"
SEARCHED = 1000  # files of a folder in which there may be no JSON
NO_CLASSES = ("__ignore__", "_background_")
NO_MASKS = {  # shape types
    "rectangle": NO_MASK,
    "oriented_rectangle": NO_MASK,
    "point": OTHER_SHAPE,
    "points": OTHER_SHAPE,
    "line": OTHER_SHAPE,
    "linestrip": OTHER_SHAPE,
}


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """One record a JSON; a JSON that cannot be read is reported."""
    shapes, files = ToolShapes(source, metadata), _files(source.annotations)
    images = ImageFiles(image_folder(source.images), source.annotations)
    start = source.annotations if source.annotations.is_dir() else source.annotations.parent
    for file in files:
        name = file.relative_to(start).with_suffix("").as_posix()
        yield from shapes.attempt(
            lambda file=file, name=name: _record(file, name, images, shapes),
            "annotation file",
            file,
            name,
        )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [
        file
        for file in files_below(path)
        if file.suffix.lower() == ".json" and file.name not in CLASS_FILES
    ]
    if not files:
        raise DataError(f"{path}: has no labelme JSON in it")
    return files


def _record(file: Path, name: str, images: ImageFiles, shapes: ToolShapes) -> Record:
    content = _content(file)
    written = typed(content, "imagePath", text, "the file", file).replace("\\", "/")
    folder = Path(name).parent
    near = [images.folder / folder / written, file.parent / written]
    image = next((Path(os.path.normpath(p)) for p in near if p.is_file()), None)
    if image is None:
        image = images(written)
    size = _size(content, image, file)
    parts = []
    for i, shape in enumerate(typed(content, "shapes", listing, "the file", file)):
        parts += shapes.attempt(
            lambda shape=shape, what=f"shape {i}": _part(shape, size, file, what, shapes),
            "shape",
            file,
            name,
        )
    return Record(name, size, (Frame(image, joined(parts, size)),))


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or "shapes" not in content:
        raise DataError(f"{file}: is no labelme file; expected an object with `shapes`")
    return content


def _size(content: dict[str, Any], image: Path, file: Path) -> Size:
    stated = [content.get(key) for key in ("imageHeight", "imageWidth")]
    if None in stated:
        return check_area(image_size(image), f"{file}: its image")
    H, W = (typed(content, key, edge, "the file", file) for key in ("imageHeight", "imageWidth"))
    return check_area((H, W), f"{file}: its image")


def _part(shape: Any, size: Size, file: Path, what: str, shapes: ToolShapes) -> Part | None:
    """A shape of a file; None where it is no mask, which is counted."""
    where, image = f"{file}: {what}", file.stem
    kind = typed(shape, "shape_type", text, what, file, default="polygon")
    label = get(shape, "label", what, file)
    if kind in NO_MASKS or label in NO_CLASSES:
        lost = NO_MASKS.get(kind, OTHER_SHAPE)
        shapes.lose(lost, f"{where} is a {kind} with the label {label!r:.60}", image, label)
        return None
    category, ring = shapes.category(label, where), ring_of(get(shape, "points", what, file), where)
    flags = shape.get("flags")
    crowd = isinstance(flags, dict) and flags.get("crowd") is True
    group = shape.get("group_id")
    if group is not None and not isinstance(group, int | str):
        raise DataError(f"{where} has group_id {group!r:.40}; expected a number")
    if kind == "mask":
        stored = typed(shape, "mask", text, what, file)
        mask = shapes.mask(_mask(stored, ring, size, where), where, (image, label))
        return Part(category, mask, group, crowd)
    if kind == "circle":
        return Part(category, _circle(ring, where), group, crowd)
    if kind != "polygon":
        raise DataError(f"{where} has shape_type {kind!r:.40}; expected polygon, mask or circle")
    if not shapes.polygon(ring, size, where, (image, label)):
        return None
    return Part(category, Polygons((ring,)), group, crowd)


def _circle(ring: tuple[float, ...], where: str) -> Polygons:
    if len(ring) != 4:
        raise DataError(f"{where} is a circle of {len(ring) // 2} points; expected centre and rim")
    x, y, rim_x, rim_y = ring
    radius = ((rim_x - x) ** 2 + (rim_y - y) ** 2) ** 0.5
    return ellipse(x=x, y=y, radii=(radius, radius))


def _mask(stored: str, ring: tuple[float, ...], size: Size, where: str) -> Rle:
    """A PNG in base64 of the box whose first and last pixels the two points are."""
    if len(ring) != 4:
        raise DataError(f"{where} is a mask with {len(ring) // 2} points; expected two corners")
    x0, y0, x1, y1 = map(int, ring)
    try:
        with Image.open(io.BytesIO(base64.b64decode(stored, validate=True))) as image:
            if image.size != (x1 - x0 + 1, y1 - y0 + 1):
                raise DataError(
                    f"{where} has a mask of {image.size[0]} x {image.size[1]} pixels in a box of"
                    f" {x1 - x0 + 1} x {y1 - y0 + 1} (width, height)"
                )
            pixels = np.asarray(image.convert("L")) > 0
    except DataError:
        raise
    except (binascii.Error, *IMAGE_ERRORS) as error:
        raise DataError(f"{where} has a mask that is no PNG in base64: {error}") from None
    return placed(pixels, x0, y0, size)


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """Polygons as polygons, other masks as masks; crowds by a flag of that name."""
    folder = goal.folder / "annotations" / goal.split
    folder.mkdir(parents=True, exist_ok=True)
    write_class_file(metadata, goal.folder, things=True)
    for record in records:
        file = folder / f"{goal.stem(record)}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(file.relative_to(goal.folder).parts[:-1])
        shapes = [
            shape
            for group, segment in enumerate(record.frames[0].segments)
            for shape in _written(segment, record, group, metadata, goal)
        ]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{up}images/{goal.split}/{goal.name(record)}",
            "imageData": None,
            "imageHeight": record.size[0],
            "imageWidth": record.size[1],
        }
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def _written(
    segment: Segment, record: Record, group: int, metadata: Metadata, goal: Goal
) -> Iterator[dict[str, Any]]:
    common = {
        "label": metadata.classes[segment.category],
        "description": "",
        "flags": {"crowd": True} if segment.crowd else {},
    }
    if isinstance(shape := segment.shape, Polygons):
        for ring in shape.rings:
            points = [list(point) for point in zip(ring[0::2], ring[1::2], strict=True)]
            several = group if len(shape.rings) > 1 else None
            kind = {"shape_type": "polygon", "mask": None}
            yield {**common, "points": points, "group_id": several, **kind}
        return
    left, top, mask = box_in(to_rle(segment, record.frames[0], record.size))
    if not mask.size:
        goal.lost["empty masks"] += 1
        return
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    corners = [[left, top], [left + mask.shape[1] - 1, top + mask.shape[0] - 1]]
    stored = base64.b64encode(stream.getvalue()).decode()
    yield {**common, "points": corners, "group_id": None, "shape_type": "mask", "mask": stored}


def _classes(source: Source) -> ClassList:
    path = source.annotations
    folder = path if path.is_dir() else path.parent
    listed = class_file_in([folder, *folder.absolute().parents[:2]])
    if listed is not None:
        return listed
    file = next((f / LABELS for f in (folder, folder.parent) if (f / LABELS).is_file()), None)
    if file is not None:
        return ClassList(_lines(file))
    labels = {label for each in _files(path) for label in _labels(each)}
    if not labels:
        raise DataError(f"{path}: no file has a shape with a label; list the classes in {LABELS}")
    return ClassList(tuple(sorted(labels)))


def _lines(file: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in read_text(file, "list of labels").splitlines()]
    names = tuple(line for line in dict.fromkeys(lines) if line and line not in NO_CLASSES)
    if not names:
        raise DataError(f"{file}: list of labels is empty; expected one a line")
    return names


def _labels(file: Path) -> Iterator[str]:
    """Of one file; a broken one is reported when it is read."""
    try:
        shapes = _content(file)["shapes"]
    except DataError:
        return
    for shape in shapes if isinstance(shapes, list) else []:
        label = shape.get("label") if isinstance(shape, dict) else None
        if isinstance(label, str) and label and label not in NO_CLASSES:
            yield label


def _recognises(path: Path) -> bool:
    """Also a folder, unless it is one of label images with a class list."""
    if path.is_dir():
        try:
            files = list(islice(files_below(path), SEARCHED))
        except DataError:
            return False
        jsons = [f for f in files if f.suffix.lower() == ".json" and f.name not in CLASS_FILES]
        listed = any(file.exists() for file in class_files(path))
        if not jsons or (listed and any(f.suffix.lower() in IMAGE_SUFFIXES for f in files)):
            return False
        path = jsons[0]
    head = head_of_json(path) if path.is_file() else ""
    return head.startswith("{") and any(f'"{key}"' in head for key in ("shapes", "imagePath"))


def _images_beside(path: Path) -> Path:
    """The folder itself, where the images lie beside the JSONs, or another usual one."""
    folder = path if path.is_dir() else path.parent
    for file in _files(path):
        try:
            written = typed(_content(file), "imagePath", text, "the file", file)
        except DataError:
            continue
        if Path(written).name == written and (file.parent / written).is_file():
            return folder
        places = [".", f"../images/{folder.name}", f"../../images/{folder.name}"]
        places += ["images", "../images", "../../images", "JPEGImages", "../JPEGImages", "data"]
        places += ["../data", "../../JPEGImages", "../../data"]
        written = re.sub(r"^(\.\.?[/\\])+", "", written)
        return first_with([written], [folder / place for place in places], path)
    return folder


FORMAT = Format(
    name="labelme",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    evaluators=("instance", "boundary"),
    write=write,
)
