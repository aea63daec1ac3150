"""CVAT for images 1.1: one XML with the polygons, masks and ellipses of many images.

Boxes, skeletons, cuboids, lines and points are no masks: they are left out and counted. Shapes with
the same `group_id` and label are one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from segcore.data.class_list import ClassList, Color
from segcore.data.folders import first_with, image_folder
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.formats.tool_shapes import (
    Part,
    ToolShapes,
    box_in,
    check_area,
    ellipse,
    joined,
    placed,
)
from segcore.data.image_names import ImageFiles
from segcore.data.parsing.shapes import LIMIT
from segcore.data.parsing.xml_stream import Element, elements, root_tag
from segcore.data.problem import NO_MASK, OTHER_SHAPE
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size
from segcore.whole_file import whole_file

NO_MASKS = {
    "box": NO_MASK,
    "cuboid": NO_MASK,
    **dict.fromkeys(("skeleton", "polyline", "points", "tag"), OTHER_SHAPE),
}
CROWD = "is_crowd"  # an attribute of a shape


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images without a shape stay, as empty ones."""
    path, shapes = source.annotations, ToolShapes(source, metadata)
    file_of, names = ImageFiles(image_folder(source.images), path), set[str]()
    seen: dict[str, str] = {}  # names by what they are without a suffix
    for image in elements(path, ("image", "track")):
        if image.tag == "track":
            raise DataError(
                f"{path}: is CVAT for video (it has tracks); export it as CVAT for images 1.1"
            )
        name = image.attributes.get("name", "")
        yield from shapes.attempt(
            lambda image=image: _record(image, names, seen, file_of, shapes),
            "image entry",
            path,
            name,
        )
    if not names:
        raise DataError(f"{path}: has no <image>; expected CVAT for images 1.1")


def _record(
    image: Element,
    names: set[str],
    seen: dict[str, str],
    file_of: ImageFiles,
    shapes: ToolShapes,
) -> Record:
    where = f"{shapes.source.annotations}: line {image.line}: an image"
    name = _attribute(image, "name", where)
    if name in names:
        raise DataError(f"{where} is called {name!r:.80}, as one before it")
    names.add(name)
    H, W = (_whole(image, key, where) for key in ("height", "width"))
    if H < 1 or W < 1:
        raise DataError(f"{where} has the size {H} x {W} (height, width)")
    size, parts = check_area((H, W), where), list[Part]()
    file = file_of(name)
    for shape in image.children:
        parts += shapes.attempt(
            lambda shape=shape: _part(shape, name, size, shapes),
            "shape",
            shapes.source.annotations,
            name,
        )
    stem = Path(name).with_suffix("").as_posix()
    number = seen.setdefault(stem, name)  # of a.jpg and a.png one keeps its suffix
    return Record(stem if number == name else name, size, (Frame(file, joined(parts, size)),))


def _part(shape: Element, image: str, size: Size, shapes: ToolShapes) -> Part | None:
    """A shape of an image; None where it is no mask, which is counted."""
    where = f"{shapes.source.annotations}: line {shape.line}: <{shape.tag}>"
    label = shape.attributes.get("label")
    if shape.tag in NO_MASKS:
        shapes.lose(NO_MASKS[shape.tag], f"{where} has no mask", image, label)
        return None
    if shape.tag not in ("polygon", "mask", "ellipse"):
        raise DataError(f"{where} is unknown; expected polygon, mask or ellipse")
    category = shapes.category(_attribute(shape, "label", where), where)
    made = _shape(shape, size, where)
    if not isinstance(made, Polygons):
        shapes.mask(made, where, (image, label))
    elif not shapes.polygon(made.rings[0], size, where, (image, label)):
        return None
    group = shape.attributes.get("group_id") or None
    crowd = any(
        child.attributes.get("name") in (CROWD, "iscrowd")
        and child.text.strip().lower() in ("1", "true")
        for child in shape.children
    )
    return Part(category, made, None if group == "0" else group, crowd)


def _shape(shape: Element, size: Size, where: str) -> Polygons | Rle:
    if shape.tag == "mask":
        return _mask(shape, size, where)
    if shape.tag == "ellipse":
        x, y, along, across = (_real(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
        turn = _real(shape, "rotation", where) if "rotation" in shape.attributes else 0.0
        return ellipse(x=x, y=y, radii=(along, across), degrees=turn)
    points = _attribute(shape, "points", where)
    pairs = [pair.split(",") for pair in points.split(";") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{where} has points {points!r:.60}; expected x,y;x,y;...")
    ring = tuple(_number(value, where, "points") for pair in pairs for value in pair)
    return Polygons((ring,))


def _mask(shape: Element, size: Size, where: str) -> Rle:
    """Run lengths of a box, row by row, zeros first."""
    left, top, w, h = (_whole(shape, key, where) for key in ("left", "top", "width", "height"))
    words = _attribute(shape, "rle", where).split(",")
    try:
        runs = np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        raise DataError(f"{where} has rle {','.join(words)!r:.60}; expected run lengths") from None
    if w < 1 or h < 1 or w > size[1] or h > size[0]:
        raise DataError(f"{where} is {h} x {w} in an image of {size} (height, width)")
    if runs.min() < 0 or runs.max() > w * h or runs.sum() != w * h:
        raise DataError(
            f"{where} has run lengths that add up to {runs.sum()}; expected height x width ="
            f" {h * w}, none of them negative"
        )
    part = np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(h, w)
    return placed(part, left, top, size)


def _attribute(element: Element, key: str, where: str) -> str:
    value = element.attributes.get(key)
    if not value or "\0" in value:
        raise DataError(f"{where} has no {key}; it has {sorted(element.attributes)}")
    return value


def _number(text: str, where: str, key: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < LIMIT:
        raise DataError(f"{where} has {key} {text!r:.40}; expected a number under {LIMIT:.0e}")
    return value


def _real(element: Element, key: str, where: str) -> float:
    return _number(_attribute(element, key, where), where, key)


def _whole(element: Element, key: str, where: str) -> int:
    value = _real(element, key, where)
    if not value.is_integer():
        raise DataError(f"{where} has {key} {value:g}; expected a whole number")
    return int(value)


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`annotations/<split>.xml`: single polygons as they are, everything else as masks."""
    path = goal.folder / "annotations" / f"{goal.split}.xml"
    with whole_file(path, "w") as stream:
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        stream.write("  <version>1.1</version>\n  <meta><task><labels>\n")
        for name, color in zip(metadata.classes, metadata.colors, strict=True):
            shown = "#{:02x}{:02x}{:02x}".format(*color)
            stream.write(
                f"    <label><name>{escape(name)}</name><color>{shown}</color><type>any</type>"
                f"<attributes><attribute><name>{CROWD}</name><mutable>False</mutable>"
                "<input_type>checkbox</input_type><default_value>false</default_value>"
                "<values>false</values></attribute></attributes></label>\n"
            )
        stream.write("  </labels></task></meta>\n")
        for number, record in enumerate(records):
            H, W = record.size
            name = quoteattr(goal.name(record))
            stream.write(f'  <image id="{number}" name={name} width="{W}" height="{H}">\n')
            for segment in record.frames[0].segments:
                stream.write(_written(segment, record, metadata, goal))
            stream.write("  </image>\n")
        stream.write("</annotations>\n")
    if not all(metadata.is_thing):
        goal.lost["stuff classes, which are read as things"] += metadata.is_thing.count(False)
    return path


def _written(segment: Segment, record: Record, metadata: Metadata, goal: Goal) -> str:
    label = quoteattr(metadata.classes[segment.category])
    if isinstance(shape := segment.shape, Polygons) and len(shape.rings) == 1:
        ring = shape.rings[0]
        points = ";".join(f"{x!r},{y!r}" for x, y in zip(ring[0::2], ring[1::2], strict=True))
        tag, attributes = "polygon", f'points="{points}"'
    else:
        left, top, mask = box_in(to_rle(segment, record.frames[0], record.size))
        if not mask.size:
            goal.lost["empty masks"] += 1
            return ""
        h, w = mask.shape
        tag, attributes = "mask", f'rle="{", ".join(map(str, _runs(mask)))}"'
        attributes += f' left="{left}" top="{top}" width="{w}" height="{h}"'
    crowd = f'<attribute name="{CROWD}">true</attribute>' if segment.crowd else ""
    common = f'label={label} source="manual" occluded="0" z_order="0"'
    return f"    <{tag} {common} {attributes}>{crowd}</{tag}>\n"


def _runs(mask: np.ndarray) -> list[int]:
    """Row by row, zeros first."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(edges, prepend=0, append=flat.size).tolist()


def _classes(source: Source) -> ClassList:
    """The labels of the task or project, in order; without any, those that occur."""
    names, colors, used = list[str](), list[Color | None](), set[str]()
    for element in elements(source.annotations, ("label", "image")):
        if element.tag == "image":
            used |= {c.attributes.get("label", "") for c in element.children}
            continue
        parts = {child.tag: child.text.strip() for child in element.children}
        if "parent" not in parts and parts.get("name"):  # no part of a skeleton
            names.append(parts["name"])
            colors.append(_color(parts.get("color", "")))
    names = list(names) or sorted(used - {""})
    if not names:
        raise DataError(f"{source.annotations}: has no label; expected CVAT for images 1.1")
    if len(set(names)) != len(names):
        raise DataError(f"{source.annotations}: lists a label twice: {sorted(names)!r:.80}")
    known = [color for color in colors if color is not None]
    return ClassList(tuple(names), colors=tuple(known) if len(known) == len(names) else None)


def _color(text: str) -> Color | None:
    digits = text.removeprefix("#")
    if len(digits) != 6 or not set(digits.lower()) <= set("0123456789abcdef"):
        return None
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def _recognises(path: Path) -> bool:
    """By its outermost element, or of a damaged file by its suffix."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    return root_tag(path) in ("annotations", "")


def _images_beside(path: Path) -> Path:
    first = next(elements(path, ("image",)), None)
    name = "" if first is None else first.attributes.get("name", "")
    stem = path.stem
    places = ["images", f"images/{stem}", f"../images/{stem}", "../images"]
    places += [stem, "JPEGImages", "data", "../JPEGImages", "../data", "."]
    return first_with([name], [path.parent / place for place in places], path)


FORMAT = Format(
    name="cvat",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    evaluators=("instance", "boundary"),
    write=write,
)
