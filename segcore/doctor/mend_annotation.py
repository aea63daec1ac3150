"""One annotation of a COCO file, put right where there is but one way to do it.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcore import masks
from segcore.data.parsing.run_lengths import faults
from segcore.data.parsing.shapes import shape_of
from segcore.errors import DataError
from segcore.structures import Polygons, Rle, Size

# what has been done, as people are told
SCALED = "coordinates of 0 to 1 multiplied by the image's size"
FLATTENED = "lists of points made flat rings"
RINGS = "rings of an odd length, of under three points or without an area dropped"
NO_MASK = "annotations without a mask dropped"
EMPTY = "annotations without an area dropped"
AREA = "areas of 0 or below computed anew"
BOX = "boxes without an extent computed anew"
CROWD = 'classes of nothing but crowds: "iscrowd" set to 0'
DROPPED = (NO_MASK, EMPTY)

Number = (int, float)


def mended(
    entry: dict[str, Any], size: Size, *, all_crowd: bool, done: Counter[str]
) -> dict[str, Any] | None:
    """The entry, a mended copy of it, or None where nothing of it can be learnt.

    What cannot be understood stays as it is: a reader says what is wrong with it.

    Args:
        size: of its image.
        all_crowd: every annotation of its class is marked crowd.
        done: is told what has been done.
    """
    entry = dict(entry)
    if all_crowd and entry.get("iscrowd"):
        entry["iscrowd"] = 0
        done[CROWD] += 1
    value = entry.get("segmentation")
    if not value or value == [[]]:
        done[NO_MASK] += 1
        return None
    changed = False
    if isinstance(value, list):
        rings, what = _mended_rings(value, size)
        if rings is None:
            return entry
        done.update(what)
        if not rings:
            done[EMPTY] += 1
            return None
        changed = bool(what)
        entry["segmentation"] = rings if changed else value
    mask = _mask(entry["segmentation"], size)
    if mask is None:
        return entry
    area = float(masks.area([mask])[0])
    if not area:
        rings = entry["segmentation"] if isinstance(value, list) else []
        if any(_is_beyond(ring, size) for ring in rings):
            return entry  # nobody knows where it belongs
        done[EMPTY] += 1
        return None
    _measure(entry, mask, area, changed=changed, done=done)
    return entry


def _mended_rings(value: list[Any], size: Size) -> tuple[list[Any] | None, list[str]]:
    """Rings that can be drawn, and what was done to them; None where they are no numbers."""
    what = []
    if all(isinstance(v, Number) for v in value):
        value, what = [value], [FLATTENED]
    elif len(value) > 2 and all(_is_point(v) for v in value):
        value, what = [[v for point in value for v in point]], [FLATTENED]
    elif all(isinstance(ring, list) and ring and all(map(_is_point, ring)) for ring in value):
        value, what = [[v for point in ring for v in point] for ring in value], [FLATTENED]
    if not all(isinstance(ring, list) and _are_numbers(ring) for ring in value):
        return None, []
    whole = [ring for ring in value if len(ring) >= 6 and len(ring) % 2 == 0]
    if whole and _is_unit(whole, size):
        H, W = size
        whole = [[v * (H if i % 2 else W) for i, v in enumerate(ring)] for ring in whole]
        what.append(SCALED)
    solid = [ring for ring in whole if _is_beyond(ring, size) or _pixels(ring, size)]
    if len(solid) < len(value):
        what.append(RINGS)
    return solid, what


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _are_numbers(value)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, Number) and abs(v) < 1e7 for v in values)


def _is_unit(rings: list[list[float]], size: Size) -> bool:
    """Whether these are shares of the image's sides."""
    values = [v for ring in rings for v in ring]
    return min(values) >= 0 and max(values) <= 1 and size[0] * size[1] > 4


def _pixels(ring: list[float], size: Size) -> float:
    return float(masks.area([masks.encode_polygons([ring], size)])[0])


def _is_beyond(ring: list[float], size: Size) -> bool:
    """Whether it lies outside of its image altogether."""
    xs, ys = ring[::2], ring[1::2]
    return min(xs) >= size[1] or min(ys) >= size[0] or max(xs) <= 0 or max(ys) <= 0


def _mask(value: Any, size: Size) -> Rle | None:
    """None where it is broken: who reads it says how."""
    try:
        shape = shape_of(value, size, "an annotation", Path("of this file"))
    except DataError:
        return None
    if isinstance(shape, Polygons):
        return masks.encode_polygons(shape.rings, size)
    if shape is None or faults([shape["counts"]], [shape["size"]]):
        return None
    return shape


def _measure(
    entry: dict[str, Any], mask: Rle, area: float, *, changed: bool, done: Counter[str]
) -> None:
    """Area and box anew where they say nothing, or where the mask is another now."""
    stated, box = entry.get("area"), entry.get("bbox")
    worthless = "area" in entry and not (isinstance(stated, Number) and stated > 0)
    if worthless:
        done[AREA] += 1
    if worthless or (changed and "area" in entry):
        entry["area"] = area
    flat = isinstance(box, list) and not (len(box) == 4 and _are_numbers(box) and min(box[2:]) > 0)
    if flat:
        done[BOX] += 1
    if flat or (changed and box is not None):
        x0, y0, x1, y1 = masks.boxes([mask])[0].tolist()
        entry["bbox"] = [x0, y0, x1 - x0, y1 - y0]
