"""Whatever Datumaro reads: masks, polygons and ellipses of a data set that no other format takes.

`datumaro=PATH` lets Datumaro say which of its formats it is, `datumaro:NAME=PATH` states it, and
`@SUBSET` behind the path chooses a subset; else it is `train` where there is one, and all images
where there is none. Datumaro is imported when such a path is read, never before.

Shapes of one `group` and label are one object. Boxes, points and lines are no masks: they are left
out and counted, but for a box in one group with a mask. Classes are Datumaro's labels, all things.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from segcore import masks
from segcore.data.class_list import ClassList
from segcore.data.formats.format import Format, Source
from segcore.data.formats.tool_shapes import Part, ToolShapes, check_area, ellipse, joined
from segcore.data.problem import NO_MASK, OTHER_SHAPE
from segcore.errors import ConfigError, DataError
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Size

CROWD = "is_crowd"  # an attribute
ANY = Path()  # in the place of a subset
NO_MASKS = {
    **dict.fromkeys(("bbox", "rotated_bbox", "cuboid_2d"), NO_MASK),
    **dict.fromkeys(("points", "polyline"), OTHER_SHAPE),
}
SHAPES = ("mask", "polygon", "ellipse")  # what is neither here nor above is said of whole images


def read(name: str, source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images without a shape stay, as empty ones; those that are no files are faults.

    Args:
        name: of Datumaro's format; "": as it recognises.
    """
    path, shapes = source.annotations, ToolShapes(source, metadata)
    content = _content(name, path)
    items, subsets = _Items(_labels(content, path), shapes), list(content.subsets())
    chosen = _subset(source, subsets)
    for item in sorted(content, key=lambda item: (item.subset, item.id)):  # its own order varies
        if chosen is None or item.subset == chosen:
            several = chosen is None and len(subsets) > 1
            image = f"{item.subset}/{item.id}" if several else str(item.id)
            record = partial(items.record, item, image)
            yield from shapes.attempt(record, "image entry", path, image)


def _content(name: str, path: Path) -> Any:
    """Datumaro's Dataset; ConfigError where the package is missing."""
    try:
        datumaro, errors = import_module("datumaro"), import_module("datumaro.errors")
    except ImportError as error:
        raise ConfigError(
            f"{path}: the format datumaro needs the package of this name: pip install"
            f" 'segcore[datumaro]' ({error})"
        ) from None
    try:
        return datumaro.Dataset.import_from(str(path), name or None)
    except (errors.DatumaroError, OSError, ValueError, KeyError) as error:
        said = str(error) or type(error).__name__
        raise DataError(
            f"{path}: Datumaro cannot read it{f' as {name}' if name else ''}: {said:.300};"
            f" state its format as Datumaro calls it, datumaro:NAME={path}"
        ) from None


def _labels(content: Any, path: Path) -> tuple[str, ...]:
    """Names of its classes, in Datumaro's order."""
    listed = [v for kind, v in content.categories().items() if kind.name == "label"]
    if not listed or not len(listed[0]):
        raise DataError(f"{path}: Datumaro finds no label in it; a data set needs classes")
    return tuple(label.name for label in listed[0])


def _classes(name: str, source: Source) -> ClassList:
    return ClassList(_labels(_content(name, source.annotations), source.annotations))


def _subset(source: Source, subsets: list[str]) -> str | None:
    """The one that is meant; None: all."""
    if source.images == ANY:
        return "train" if "train" in subsets else None
    if (wanted := str(source.images)) in subsets:
        return wanted
    raise DataError(
        f"{source.annotations}@{wanted}: there is no such subset; there are {', '.join(subsets)}"
    )


@dataclass(frozen=True, slots=True)
class _Items:
    """Datumaro's items as records.

    Args:
        labels: names of its classes, by their number there.
        shapes: what is wrong with them is reported through.
    """

    labels: tuple[str, ...]
    shapes: ToolShapes

    def record(self, item: Any, image: str) -> Record:
        """An image with its objects.

        Args:
            image: what it is called.
        """
        path = self.shapes.source.annotations
        where = f"{path}: {image}"
        file = getattr(item.media, "path", "")
        if not file:
            raise DataError(
                f"{where}: its image is no file of its own; write the data set with images in"
                " another format (datum convert -f coco -- --save-media), and give that"
            )
        if not item.media.size:
            raise DataError(f"{where}: its image {file} is not there, or cannot be read")
        H, W = item.media.size
        size, parts = check_area((H, W), where), list[Part]()
        masked = {a.group for a in item.annotations if a.group and a.type.name in SHAPES}
        for i, annotation in enumerate(item.annotations):
            if annotation.type.name in NO_MASKS and annotation.group in masked:
                continue  # the box of a mask, or its key points
            part = partial(self.part, annotation, f"{where}: annotation {i}", image, size)
            parts += self.shapes.attempt(part, "shape", path, image)
        return Record(image, size, (Frame(Path(file), joined(parts, size)),))

    def part(self, annotation: Any, where: str, image: str, size: Size) -> Part | None:
        """A shape of an image; None where it is no mask, which is counted."""
        kind, number = annotation.type.name, getattr(annotation, "label", None)
        label = None if number is None else dict(enumerate(self.labels)).get(number)
        if kind in NO_MASKS:
            self.shapes.lose(NO_MASKS[kind], f"{where} is a {kind}, no mask", image, label)
            return None
        if kind not in SHAPES:
            return None
        category = self.shapes.category(label, where)
        made = _shape(annotation, kind, size, where)
        if not isinstance(made, Polygons):
            self.shapes.mask(made, where, (image, label))
        elif not self.shapes.polygon(made.rings[0], size, where, (image, label)):
            return None
        crowd = bool(annotation.attributes.get(CROWD))
        return Part(category, made, annotation.group or None, crowd)


def _shape(annotation: Any, kind: str, size: Size, where: str) -> Polygons | Rle:
    if kind == "ellipse":
        x0, y0, x1, y1 = (float(value) for value in annotation.points)
        radii = ((x1 - x0) / 2, (y1 - y0) / 2)
        return ellipse(x=(x0 + x1) / 2, y=(y0 + y1) / 2, radii=radii)
    if kind == "polygon":
        return Polygons((tuple(float(value) for value in annotation.points),))
    mask = np.asarray(annotation.image)
    if mask.shape != size:
        raise DataError(f"{where} has a mask of {mask.shape} pixels; its image has {size}")
    return masks.encode(mask.astype(bool)[None])[0]


def _format(name: str) -> Format:
    """Args: name: of Datumaro's format; "": as it recognises."""
    return Format(
        name=f"datumaro:{name}" if name else "datumaro",
        read=partial(read, name),
        recognises=lambda path: False,  # only where it is asked for
        images_beside=lambda path: ANY,
        classes=partial(_classes, name),
        evaluators=("instance", "boundary"),
    )


FORMAT = _format("")


def __getattr__(name: str) -> Format:
    """A format of Datumaro by its name there: `datumaro:kitti` is `kitti` of this module."""
    if name.startswith("_") or not name.islower():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _format(name)
