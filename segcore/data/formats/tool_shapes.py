"""What files of annotation tools have in common: labels by name, rings of points, groups, parts.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from segcore import masks
from segcore.data.formats.format import Source
from segcore.data.parsing.shape_doubts import doubt_of, doubt_of_area
from segcore.data.parsing.shapes import LIMIT
from segcore.data.parsing.values import real
from segcore.data.problem import ASTRAY, SHORT, Effect, Problem
from segcore.errors import DataError
from segcore.structures import Metadata, Polygons, Rle, Segment, Size

T = TypeVar("T")
Place = tuple[str, Any]  # of a shape: the name of its image, and its label

DECIMALS = 4  # of a pixel: a share of an image, written and read again, is the same number
LARGEST_AREA = 1 << 28  # pixels of an image whose masks are made here
ELLIPSE = 72  # corners


@dataclass(slots=True)
class ToolShapes:
    """The shapes of one file, or one folder of files; what is wrong is reported and left out.

    Args:
        source: what is read.
        metadata: whose classes the labels name.
    """

    source: Source
    metadata: Metadata

    def attempt(self, read: Callable[[], T | None], kind: str, path: Path, image: str) -> list[T]:
        """What `read` returns; nothing where that is None, or a DataError, which is reported."""
        try:
            value = read()
        except DataError as fault:
            self.source.problem(Problem(message=str(fault), path=path, kind=kind, image=image))
            return []
        return [] if value is None else [value]

    def category(self, label: Any, where: str) -> int:
        """The class of a label."""
        if label in (names := self.metadata.classes):
            return names.index(label)
        shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        raise DataError(f"{where} has the label {label!r:.60}; {self.metadata.name} has {shown}")

    def lose(
        self, kind: str, where: str, image: str, label: Any = None, effect: Effect = "loss"
    ) -> None:
        """Report what teaches nothing, and is left out or kept as it is.

        Args:
            kind: of `segcore.data.problem`.
            where: the file, the place in it, and what is there.
            label: of the class, where there is one.
        """
        names = self.metadata.classes
        self.source.problem(
            Problem(
                message=where,
                path=self.source.annotations,
                kind=kind,
                image=image,
                effect=effect,
                category=names.index(label) if label in names else None,
            )
        )

    def polygon(self, ring: tuple[float, ...], size: Size, where: str, place: Place) -> bool:
        """Whether a ring is a polygon; what is odd about it is reported.

        Raises:
            DataError: one of its coordinates is so far away that nobody should draw it.
        """
        image, label = place
        shape = Polygons((ring,)) if len(ring) >= 6 else None
        doubt = doubt_of([list(ring)], shape, size, area=None, box=None)
        if doubt is None:
            return True
        kind, said = doubt
        if kind == ASTRAY:
            raise DataError(f"{where} {said}")
        self.lose(kind, f"{where} {said}", image, label)
        return kind != SHORT and shape is not None

    def mask(self, rle: Rle, where: str, place: Place) -> Rle:
        """A mask as it is; one without a pixel is reported."""
        if doubt := doubt_of_area(float(masks.area([rle])[0]), None):
            self.lose(doubt[0], f"{where} {doubt[1]}", *place)
        return rle


@dataclass(frozen=True, slots=True)
class Part:
    """A shape of a file: an object, or a part of one."""

    category: int
    shape: Polygons | Rle
    group: Any = None  # those of one group and category are one object; None: one by itself
    crowd: bool = False


def joined(parts: Iterable[Part], size: Size) -> tuple[Segment, ...]:
    """Objects, in the order of their first parts."""
    objects: dict[Any, list[Part]] = {}
    for i, part in enumerate(parts):
        key = i if part.group is None else (part.category, part.group, part.crowd)
        objects.setdefault(key, []).append(part)
    segments = []
    for same in objects.values():
        shapes = [part.shape for part in same]
        shape = shapes[0] if len(shapes) == 1 else _union(shapes, size)
        segments.append(Segment(same[0].category, shape, same[0].crowd))
    return tuple(segments)


def _union(shapes: list[Polygons | Rle], size: Size) -> Polygons | Rle:
    rings = tuple(ring for s in shapes if isinstance(s, Polygons) for ring in s.rings)
    rles = [shape for shape in shapes if not isinstance(shape, Polygons)]
    if not rles:
        return Polygons(rings)
    return masks.union([*rles, *([masks.encode_polygons(rings, size)] if rings else [])])


def ring_of(points: Any, where: str) -> tuple[float, ...]:
    """[[x, y], ...] -> x0, y0, x1, y1, ...; of any number of points."""
    expected = f"{where} has points {points!r:.60}; expected [[x, y], ...] of finite numbers"
    if not isinstance(points, list):
        raise DataError(expected)
    ring: list[float] = []
    for point in points:
        if not isinstance(point, list | tuple) or len(point) != 2:
            raise DataError(expected)
        ring += point
    if not all(_is_coordinate(value) for value in ring):
        raise DataError(expected)
    return tuple(ring)


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LIMIT and math.isfinite(value)


def of_shares(ring: tuple[float, ...], size: Size, whole: float) -> tuple[float, ...]:
    """A ring in pixels from one whose width and height of the image are `whole`."""
    H, W = size
    return tuple(round(v * (H if i % 2 else W) / whole, DECIMALS) for i, v in enumerate(ring))


def ellipse(*, x: float, y: float, radii: tuple[float, float], degrees: float = 0.0) -> Polygons:
    """An ellipse as a polygon; `radii` along x and y, then turned clockwise, as images are seen."""
    angles = np.linspace(0, 2 * math.pi, ELLIPSE, endpoint=False)
    along, across = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    turn = math.radians(degrees)
    xs = x + along * math.cos(turn) - across * math.sin(turn)
    ys = y + along * math.sin(turn) + across * math.cos(turn)
    return Polygons((tuple(np.stack([xs, ys], 1).ravel().round(DECIMALS).tolist()),))


def placed(part: np.ndarray, left: int, top: int, size: Size) -> Rle:
    """A mask of a part of the image; what lies outside of the image is cut off."""
    H, W = size
    mask = np.zeros(size, bool)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + part.shape[0], H), min(left + part.shape[1], W)
    if y0 < y1 and x0 < x1:
        mask[y0:y1, x0:x1] = part[y0 - top : y1 - top, x0 - left : x1 - left]
    return masks.encode(mask[None])[0]


def edge(value: Any) -> int:
    """A height or width of an image."""
    if not 1 <= (pixels := int(real(value))) <= LARGEST_AREA:
        raise ValueError(f"pixels, 1 to {LARGEST_AREA}")
    return pixels


def check_area(size: Size, where: str) -> Size:
    """The size itself; DataError where masks of it would take all memory."""
    if size[0] * size[1] > LARGEST_AREA:
        raise DataError(
            f"{where} has {size[0]} x {size[1]} pixels (height, width); expected at most"
            f" {LARGEST_AREA}"
        )
    return size


def box_in(rle: Rle) -> tuple[int, int, np.ndarray]:
    """Left, top, and the mask (h, w) bool in its box, which has no pixel where it is empty."""
    x0, y0, x1, y1 = masks.boxes([rle])[0].astype(int).tolist()
    return x0, y0, masks.decode(rle)[y0:y1, x0:x1]
