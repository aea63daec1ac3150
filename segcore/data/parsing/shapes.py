"""The shapes in COCO's files: polygons and both forms of RLE, checked before pycocotools sees them.

pycocotools answers what is no mask with a traceback, with memory that nobody wrote, or with the end
of the process.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

from segcore import masks
from segcore.data.parsing.run_lengths import check_total
from segcore.data.parsing.values import listing, typed
from segcore.errors import DataError
from segcore.structures import Polygons, Rle, Size

LIMIT = 1e7  # coordinates of polygons; no image is as large
NUMBERS, LISTS = {int, float}, {list}


def shape_of(value: Any, size: Size, what: str, path: Path) -> Polygons | Rle | None:
    """A segmentation; None where there is none, or nothing but points and lines.

    The counts of a compressed RLE are taken as they are: `is_compressed`, `run_lengths.faults`.

    Args:
        size: of the image.
        what: the annotation, for errors.
        path: the file, for errors.
    """
    if value is None:
        return None
    if isinstance(value, dict) and {"counts", "size"} <= value.keys():
        return _rle(value, size, what, path)
    if not isinstance(value, list) or not LISTS.issuperset(map(type, value)):
        raise DataError(
            f"{path}: {what} has a segmentation that is neither polygons nor RLE: {value!r:.60};"
            " expected [[x0, y0, x1, y1, ...], ...] or {size, counts}"
        )
    for ring in value:
        if not _is_flat(ring):
            raise DataError(
                f"{path}: {what} has a polygon {ring!r:.60}; expected a flat list x0, y0, x1, y1,"
                f" ... of finite numbers under {LIMIT:.0e}, no pairs"
            )
    if len(value) > 2 and all(len(ring) == 2 for ring in value):
        raise DataError(
            f"{path}: {what} has a list of points {value!r:.60}; expected the numbers of a polygon"
            " in one flat list, x0, y0, x1, y1, ..., no pairs"
        )
    rings = [tuple(ring) for ring in value if len(ring) >= 6 and len(ring) % 2 == 0]
    return Polygons(tuple(rings)) if rings else None


def packed(value: Any) -> Any:
    """Polygons of sound rings as a tuple of arrays, which `marshal` writes as bytes, a ring each;
    whatever else as it is.

    Bytes are written and read in a tenth of the time that a list of numbers takes.
    """
    if not isinstance(value, list) or not value:
        return value
    for ring in value:
        if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2 or not _is_flat(ring):
            return value
    return tuple([array("d", ring) for ring in value])


def unpacked(rings: tuple[bytes, ...]) -> Polygons:
    """What `packed` has packed, after `marshal` has read it again."""
    return Polygons(tuple([tuple(array("d", ring)) for ring in rings]))


def is_compressed(value: Any) -> bool:
    """Whether a segmentation is an RLE whose counts are a text, which nobody has looked at."""
    return isinstance(value, dict) and isinstance(value.get("counts"), str)


def _is_flat(ring: list[Any]) -> bool:
    if not ring:
        return True
    if not NUMBERS.issuperset(map(type, ring)):
        return False
    try:
        if math.hypot(*ring) < LIMIT:  # no number of them is larger, and NaN would be NaN
            return True
    except OverflowError:  # a whole number of hundreds of digits
        return False
    return (
        min(ring) > -LIMIT
        and max(ring) < LIMIT
        and math.isfinite(sum(ring))  # NaN hides from min and max
    )


def _rle(value: dict[str, Any], size: Size, what: str, path: Path) -> Rle:
    stated = typed(value, "size", listing, what, path)
    if tuple(stated) != size:
        raise DataError(
            f"{path}: {what} has a mask of size {stated}, its image is {list(size)} (height, width)"
        )
    counts = value["counts"]
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts):
            raise DataError(f"{path}: {what} has run lengths that are no whole numbers from 0")
        check_total(sum(counts), size, what, path)
        return masks.compress(counts, size)
    if not isinstance(counts, str):
        raise DataError(
            f"{path}: {what} has RLE counts {counts!r:.60}; expected a text or a list of numbers"
        )
    return {"size": list(size), "counts": counts.encode()}
