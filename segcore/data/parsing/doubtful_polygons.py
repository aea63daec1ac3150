"""Which of many polygons `shape_doubts.doubt_of` may have something to say of, all at once.

Millions of polygons pass here when a training starts, and nearly all are in order: NumPy finds the
others, and those alone are looked at one by one.

Legend of one-letter names: H W pixels, N segments, R rings of all of them, P corners of all rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from segcore.data.parsing.shape_doubts import FACTOR, is_box

TOGETHER = 1024  # segments of a batch: fewer, and NumPy's calls outweigh their work
LEAST = 1.1  # pixels, a little over the one that `doubt_of` asks for: sums differ by their order
NEAR = 0.99 * FACTOR  # for the same reason


def doubtful(
    sizes: np.ndarray, shapes: Sequence[Any], areas: Sequence[float | None], boxes: Sequence[Any]
) -> np.ndarray:
    """(N,) bool: where False, the shape is a packed polygon, and `doubt_of` it is None.

    Args:
        sizes: (N, 2) height and width of their images.
        shapes: N, as `shapes.packed` makes them.
        areas: N, as the file has them.
        boxes: N, the file's `bbox`, unchecked.
    """
    polygons = [i for i, shape in enumerate(shapes) if type(shape) is tuple]
    if len(polygons) == len(shapes):
        return _doubtful(sizes, shapes, areas, boxes)
    doubt = np.ones(len(shapes), bool)
    if polygons:
        doubt[polygons] = _doubtful(
            sizes[polygons],
            [shapes[i] for i in polygons],
            [areas[i] for i in polygons],
            [boxes[i] for i in polygons],
        )
    return doubt


def _doubtful(
    sizes: np.ndarray,
    polygons: Sequence[tuple[bytes, ...]],
    areas: Sequence[float | None],
    boxes: Sequence[Any],
) -> np.ndarray:
    bounds, drawn = _measured(polygons)
    x0, y0, x1, y1 = bounds
    H, W = sizes.T  # (N,)
    stated = np.array(areas, np.float64)  # (N,), None is NaN, of which no comparison holds
    doubt = (x0 < 0) | (y0 < 0) | (x1 > W) | (y1 > H) | (drawn < LEAST)
    doubt |= (x1 <= 1) & (y1 <= 1)
    doubt |= (stated > 0) & ((drawn > NEAR * stated) | (stated > NEAR * drawn))
    return doubt | _elsewhere(bounds, _numbers(boxes))


def _measured(polygons: Sequence[tuple[bytes, ...]]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """x0 y0 x1 y1, (N,) each, and (N,) areas: those of all rings of a segment together."""
    rings = list(chain.from_iterable(polygons))
    corners = np.fromiter(map(len, rings), np.int64, len(rings)) // 16  # (R,)
    ends = corners.cumsum()  # (R,)
    starts = ends - corners
    numbers = np.frombuffer(b"".join(rings))  # (2 P,)
    x, y = numbers[::2].copy(), numbers[1::2].copy()  # (P,)
    following = np.arange(1, len(x) + 1)  # (P,) corners; of a ring's last one its first
    following[ends - 1] = starts
    cross = x * y[following] - y * x[following]  # (P,), the shoelace formula
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))  # (N,)
    first = lengths.cumsum() - lengths  # (N,) rings
    low = [np.minimum.reduceat(np.minimum.reduceat(z, starts), first) for z in (x, y)]
    high = [np.maximum.reduceat(np.maximum.reduceat(z, starts), first) for z in (x, y)]
    area = np.add.reduceat(abs(np.add.reduceat(cross, starts)) / 2, first)
    return (*low, *high), area


def _numbers(boxes: Sequence[Any]) -> np.ndarray:
    """(N, 4) x y width height; of no size where the file has something else."""
    try:
        numbers = np.array(boxes, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != (len(boxes), 4):
        numbers = np.array([box if is_box(box) else [0] * 4 for box in boxes], np.float64)
    return numbers


def _elsewhere(bounds: tuple[np.ndarray, ...], boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: `shape_doubts._elsewhere` of many, small differences included.

    Args:
        bounds: x0 y0 x1 y1, (N,) each.
        boxes: (N, 4) of `_numbers`.
    """
    x0, y0, x1, y1 = bounds
    x, y, width, height = boxes.T
    across = np.minimum(x1, x + width) - np.maximum(x0, x)
    down = np.minimum(y1, y + height) - np.maximum(y0, y)
    shared = across.clip(0) * down.clip(0)
    union = (x1 - x0) * (y1 - y0) + width * height - shared
    return (width > 0) & (height > 0) & (3 * shared < union)
