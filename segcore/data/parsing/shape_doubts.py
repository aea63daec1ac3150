"""Polygons that are none of what they should be: held to their image, and to the file's own words.

Of the millions that a training starts with, `doubtful_polygons` sends only a few here.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from typing import Any

from segcore import masks
from segcore.data.parsing.values import LARGEST
from segcore.data.problem import (
    ASTRAY,
    BROKEN_RING,
    FLAT,
    MOSTLY_OUTSIDE,
    NO_MASK,
    OTHER_AREA,
    OTHER_BOX,
    OUTSIDE,
    SHORT,
    UNIT,
)
from segcore.structures import Polygons, Rle, Size

FACTOR = 2.0  # by which areas may differ: those of polygons and of pixels do, where masks are thin
SMALL = 16.0  # pixels by which they may differ
VAST = 100  # times the longer side of the image: nobody draws that on purpose
NUMBERS = {int, float}

Bounds = tuple[float, float, float, float]  # x0 y0 x1 y1
Doubt = tuple[str, str]  # a kind of segcore.data.problem, and what to say


def doubt_of(
    value: Any, shape: Polygons | Rle | None, size: Size, *, area: float | None, box: Any
) -> Doubt | None:
    """What is odd about a segmentation; None nearly always, and for every RLE.

    Args:
        value: as the file has it.
        shape: what has been made of it.
        size: of the image.
        area: as the file has it, None where it does not.
        box: the file's `bbox`, x y w h; anything else is no witness.
    """
    if shape is None:
        if not value or not any(value):
            return NO_MASK, "has no mask"
        return SHORT, f"has no ring of three points: {value!r:.60}"
    if not isinstance(shape, Polygons):
        return None
    x0, y0, x1, y1, drawn = _measured(shape.rings)
    bounds, (H, W) = (x0, y0, x1, y1), size
    if (x0 < 0 or y0 < 0 or x1 > W or y1 > H) and (outside := _outside(bounds, size)):
        return outside
    rings = len(shape.rings)
    left_out = sum(map(bool, value)) - rings if len(value) > rings else 0
    if left_out or drawn < 1 or (area is not None and _differ(drawn, area)):
        drawn = float(masks.area([masks.encode_polygons(shape.rings, size)])[0])
    if left_out and (area is None or _differ(drawn, area)):
        stated = "" if area is None else f"; they cover {drawn:.0f} pixels, its area is {area:.0f}"
        return BROKEN_RING, f"has {left_out} broken rings beside {rings} others{stated}"
    if x1 <= 1 and y1 <= 1 and H * W > 4:
        return UNIT, f"reaches {_span(bounds)}; its image is {W} x {H} pixels"
    if doubt := doubt_of_area(drawn, area):
        return doubt
    if is_box(box) and _elsewhere(bounds, box):
        return OTHER_BOX, f"reaches {_span(bounds)}, its bbox (x, y, width, height) is {box}"
    return None


def doubt_of_area(drawn: float, stated: float | None) -> Doubt | None:
    """The same of the pixels of a mask, and the area that the file has."""
    if not drawn:
        return FLAT, "has a mask without a pixel"
    if stated is not None and _differ(drawn, stated):
        return OTHER_AREA, f"covers {drawn:.0f} pixels, its area is {stated:.0f}"
    return None


def _outside(bounds: Bounds, size: Size) -> Doubt | None:
    """Of polygons that reach beyond their image: do they lie in it for the most part?"""
    (x0, y0, x1, y1), (H, W) = bounds, size
    where = f"reaches {_span(bounds)}; its image is {W} x {H} pixels"
    if max(x1 - x0, y1 - y0) > VAST * max(size):
        return ASTRAY, f"{where}; correct the coordinate that is wrong"
    inside = _shared(bounds, (0, 0, W, H))
    if 2 * inside >= (x1 - x0) * (y1 - y0):
        return None
    return (MOSTLY_OUTSIDE if inside > 0 else OUTSIDE), where + _guess(bounds, size)


def _differ(drawn: float, stated: float) -> bool:
    """Whether two areas are so far apart that one of them is wrong; 0 and below says nothing."""
    return (
        stated > 0
        and (drawn > FACTOR * stated or stated > FACTOR * drawn)
        and abs(drawn - stated) > SMALL
    )


def _measured(rings: Sequence[Sequence[float]]) -> tuple[float, float, float, float, float]:
    """x0 y0 x1 y1 and the area of all rings together, as if none crossed itself or another."""
    xs, ys = rings[0][::2], rings[0][1::2]
    x0, y0, x1, y1, area = min(xs), min(ys), max(xs), max(ys), _area(xs, ys)
    for ring in rings[1:]:
        xs, ys = ring[::2], ring[1::2]
        x0, y0 = min(x0, *xs), min(y0, *ys)
        x1, y1 = max(x1, *xs), max(y1, *ys)
        area += _area(xs, ys)
    return x0, y0, x1, y1, area


def _area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The shoelace formula."""
    twice = sum(map(mul, xs, ys[1:])) - sum(map(mul, ys, xs[1:]))
    return abs(twice + xs[-1] * ys[0] - ys[-1] * xs[0]) / 2


def _shared(a: Bounds, b: Bounds) -> float:
    """Area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def is_box(box: Any) -> bool:
    """Whether it is four numbers that one can reckon with."""
    return (
        isinstance(box, list)
        and len(box) == 4
        and set(map(type, box)) <= NUMBERS
        and all(abs(number) < LARGEST for number in box)  # which no NaN is
    )


def _elsewhere(bounds: Bounds, box: Sequence[float]) -> bool:
    """Whether the polygons and the file's box have less than a third of their union in common."""
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return False
    ours = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1])
    shared = _shared(bounds, (x, y, x + width, y + height))
    union = ours + width * height - shared
    return 3 * shared < union and union - shared > SMALL


def _span(bounds: Bounds) -> str:
    x0, y0, x1, y1 = bounds
    return f"from x {x0:.10g} to {x1:.10g} and y {y0:.10g} to {y1:.10g}"


def _guess(bounds: Bounds, size: Size) -> str:
    """What such coordinates may be."""
    (x0, y0, x1, y1), (H, W) = bounds, size
    if max(x1, y1) > 100 * max(size):
        return "; are these map coordinates? expected pixels from the top left"
    if min(x0, y0) >= 0 and x1 <= H and y1 <= W:
        return "; are x and y swapped?"
    return "; was it drawn on an image of another size?"
