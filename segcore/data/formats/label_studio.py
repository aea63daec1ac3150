"""Label Studio's JSON export: a list of tasks with brush strokes, polygons and ellipses.

Of several annotations of a task the first that was not cancelled counts; a task without one is left
out. Classes are those of a classes.json beside the file, or else the labels that occur.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from segcore import masks
from segcore.data.class_list import ClassList
from segcore.data.folders import first_with, image_folder
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
    of_shares,
    ring_of,
)
from segcore.data.image_names import ImageFiles
from segcore.data.images import IMAGE_SUFFIXES, image_size
from segcore.data.parsing import brush_rle
from segcore.data.parsing.json_file import head_of_json, read_json
from segcore.data.parsing.values import get, listing, real, typed
from segcore.data.problem import FURTHER, NO_ANNOTATION, NO_MASK, OTHER_SHAPE
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size
from segcore.whole_file import whole_file

NO_MASKS = {  # what a shape without a mask has in its value
    "keypointlabels": OTHER_SHAPE,
    "rectanglelabels": NO_MASK,
    "vectorlabels": OTHER_SHAPE,
    "vertices": OTHER_SHAPE,
    "width": NO_MASK,
}
CROWD = "crowd"  # a text in the `meta` of a region


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """One record a task; a task that cannot be read is reported."""
    path, shapes = source.annotations, ToolShapes(source, metadata)
    file_of = ImageFiles(image_folder(source.images), path)
    for i, task in enumerate(_tasks(path)):
        name = str(task.get("id", i)) if isinstance(task, dict) else str(i)
        yield from shapes.attempt(
            lambda task=task, name=name: _record(task, f"task {name}", file_of, shapes),
            "task",
            path,
            name,
        )


def _tasks(path: Path) -> list[Any]:
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: expected Label Studio's export, a list of tasks")
    if not any(isinstance(task, dict) and "annotations" in task for task in content):
        raise DataError(
            f"{path}: has no task with `annotations`; export it as JSON, not as JSON-MIN"
        )
    return content


def _record(task: Any, what: str, file_of: ImageFiles, shapes: ToolShapes) -> Record | None:
    path = shapes.source.annotations
    name = _image_name(get(task, "data", what, path), f"{path}: {what}")
    annotations = typed(task, "annotations", listing, what, path)
    done = [a for a in annotations if not (isinstance(a, dict) and a.get("was_cancelled"))]
    if not done:
        said = f"{path}: {what} has no annotation; left out"
        shapes.lose(NO_ANNOTATION, said, name, effect="oddity")
        return None
    if len(done) > 1:
        said = f"{path}: {what} has {len(done)} annotations; the first one counts"
        shapes.lose(FURTHER, said, name, effect="oddity")
    regions = typed(done[0], "result", listing, f"the annotation of {what}", path)
    file = file_of(name)
    size = _size(regions, file, f"{path}: {what}")
    parts = []
    for region in _labelled(regions):
        parts += shapes.attempt(
            lambda region=region: _part(region, size, (what, name), shapes), "region", path, name
        )
    return Record(what.removeprefix("task "), size, (Frame(file, joined(parts, size)),))


def _image_name(data: Any, where: str) -> str:
    if isinstance(data, dict):
        texts = [data.get("image"), *data.values()]
        for text in (text for text in texts if isinstance(text, str) and "\0" not in text):
            if text == data.get("image") or text.lower().endswith(IMAGE_SUFFIXES):
                return text
    raise DataError(f"{where} has data {data!r:.80}; expected the name of an image in it")


def _size(regions: list[Any], file: Path, where: str) -> Size:
    for region in regions:
        if isinstance(region, dict) and "original_width" in region:
            keys = ("original_height", "original_width")
            H, W = (typed(region, key, edge, "a region", where) for key in keys)
            return check_area((H, W), where)
    return check_area(image_size(file), where)


def _labelled(regions: list[Any]) -> Iterator[Any]:
    """Regions once each: a shape and its label may be two results of one id."""
    with_label = {r.get("id") for r in regions if isinstance(r, dict) and _labels(r)}
    for region in regions:
        if not isinstance(region, dict):
            yield region
            continue
        value = region.get("value")
        plain = isinstance(value, dict) and not {"rle", "points", "radiusX", *NO_MASKS} & set(value)
        if plain or (not _labels(region) and region.get("id") in with_label):
            continue  # a choice, a text; a shape whose other result has the label
        if region.get("type") != "relation":
            yield region


def _labels(region: dict[str, Any]) -> list[Any]:
    value = region.get("value")
    if not isinstance(value, dict):
        return []
    key = region.get("type") if region.get("type") in value else "labels"
    labels = value.get(key) if isinstance(key, str) else None
    return labels if isinstance(labels, list) else []


def _part(region: Any, size: Size, task: tuple[str, str], shapes: ToolShapes) -> Part | None:
    """A region; None where it is no mask, which is counted.

    Args:
        task: what it is called, and the name of its image.
    """
    path, (what, image) = shapes.source.annotations, task
    what = f"a region of {what}"
    where, value = f"{path}: {what}", get(region, "value", what, path)
    if not isinstance(value, dict):
        raise DataError(f"{where} has value {value!r:.60}; expected an object")
    labels = _labels(region)
    place = image, labels[0] if labels else None
    shape = _shape(value, size, what, path)
    if shape is None:
        kind = next(NO_MASKS[key] for key in NO_MASKS if key in value)
        shapes.lose(kind, f"{where} has no mask", *place)
        return None
    if len(labels) != 1:
        raise DataError(f"{where} has {len(labels)} labels; expected one")
    if typed(region, "image_rotation", real, what, path, default=0):
        raise DataError(f"{where} was drawn on a turned image; turn the file, and draw it again")
    if not isinstance(shape, Polygons):
        shapes.mask(shape, where, place)
    elif not shapes.polygon(shape.rings[0], size, where, place):
        return None
    meta = region.get("meta")
    crowd = isinstance(meta, dict) and meta.get("text") == [CROWD]
    return Part(shapes.category(labels[0], where), shape, None, crowd)


def _shape(value: dict[str, Any], size: Size, what: str, path: Path) -> Polygons | Rle | None:
    """In shares of a hundred of the image's width and height; a brush in pixels."""
    where = f"{path}: {what}"
    if "rle" in value:
        try:
            mask = brush_rle.decode(typed(value, "rle", listing, what, path), size)
        except ValueError as fault:
            if isinstance(fault, DataError):
                raise
            raise DataError(f"{where} has a brush of {fault}") from None
        return masks.encode(mask[None])[0]
    if "radiusX" in value:
        H, W = size
        keys = ("x", "y", "radiusX", "radiusY")
        x, y, along, across = (typed(value, key, real, what, path) / 100 for key in keys)
        turn = typed(value, "rotation", real, what, path, default=0)
        return ellipse(x=x * W, y=y * H, radii=(along * W, across * H), degrees=turn)
    if "points" in value:
        return Polygons((of_shares(ring_of(value["points"], where), size, 100),))
    return None


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`annotations/<split>.json`: single polygons as they are, everything else as brush strokes.

    `label_config.xml` is the labelling interface that the tool asks for.
    """
    path = goal.folder / "annotations" / f"{goal.split}.json"
    write_class_file(metadata, path.parent, things=True)
    with whole_file(path.parent / "label_config.xml", "w") as stream:
        stream.write(_interface(metadata))
    with whole_file(path, "w") as stream:
        for number, record in enumerate(records, 1):
            stream.write("[" if number == 1 else ",\n")
            place = f"/data/local-files/?d=images/{goal.split}/{goal.name(record)}"
            written = [_written(s, record, metadata, goal) for s in record.frames[0].segments]
            result = [region for region in written if region is not None]
            for i, region in enumerate(result):
                region["id"] = f"{number}_{i}"
            annotation = {"id": number, "was_cancelled": False, "result": result}
            task = {"id": number, "data": {"image": place}, "annotations": [annotation]}
            json.dump(task, stream, ensure_ascii=False)
        stream.write("]\n")
    return path


def _written(
    segment: Segment, record: Record, metadata: Metadata, goal: Goal
) -> dict[str, Any] | None:
    H, W = record.size
    label = metadata.classes[segment.category]
    if isinstance(shape := segment.shape, Polygons) and len(shape.rings) == 1:
        ring = shape.rings[0]
        points = [[100 * x / W, 100 * y / H] for x, y in zip(ring[0::2], ring[1::2], strict=True)]
        kind, value = "polygonlabels", {"points": points, "closed": True}
    else:
        rle = to_rle(segment, record.frames[0], record.size)
        if not box_in(rle)[2].size:
            goal.lost["empty masks"] += 1
            return None
        kind, value = "brushlabels", {"format": "rle", "rle": brush_rle.encode(masks.decode(rle))}
    region = {
        "type": kind,
        "from_name": kind,
        "to_name": "image",
        "original_width": W,
        "original_height": H,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }
    return region | ({"meta": {"text": [CROWD]}} if segment.crowd else {})


def _interface(metadata: Metadata) -> str:
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in metadata.classes)
    parts = [
        f'  <{tag} name="{tag.lower()}" toName="image">{labels}</{tag}>\n'
        for tag in ("BrushLabels", "PolygonLabels")
    ]
    return f'<View>\n  <Image name="image" value="$image"/>\n{"".join(parts)}</View>\n'


def _classes(source: Source) -> ClassList:
    listed = class_file_in([source.annotations.parent])
    if listed is not None:
        return listed
    names: set[str] = set()
    for task in _tasks(source.annotations):
        annotations = task.get("annotations") if isinstance(task, dict) else None
        for annotation in annotations if isinstance(annotations, list) else []:
            regions = annotation.get("result") if isinstance(annotation, dict) else None
            for region in _labelled(regions if isinstance(regions, list) else []):
                labels = _labels(region) if isinstance(region, dict) else []
                names |= {label for label in labels if isinstance(label, str) and label}
    if not names:
        raise DataError(f"{source.annotations}: has no region with a label")
    return ClassList(tuple(sorted(names)))


def _recognises(path: Path) -> bool:
    head = head_of_json(path) if path.is_file() else ""
    return head.startswith("[") and '"data"' in head and '"annotations"' in head


def _images_beside(path: Path) -> Path:
    names = []
    for i, task in enumerate(_tasks(path)[:20]):
        data = task.get("data") if isinstance(task, dict) else None
        try:
            names.append(_image_name(data, f"{path}: task {i}"))
        except DataError:
            continue
    places = [f"images/{path.stem}", f"../images/{path.stem}", "images", "../images"]
    places += ["upload", "media/upload", "JPEGImages", "data", "../JPEGImages", "../data", "."]
    return first_with(names or [""], [path.parent / place for place in places], path)


FORMAT = Format(
    name="label_studio",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    evaluators=("instance", "boundary"),
    write=write,
)
