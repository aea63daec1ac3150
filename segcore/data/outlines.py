"""Outlines of masks along the edges of their pixels: polygons from which the same mask comes back.

Legend of one-letter names: H W pixels, C corners.
"""

from __future__ import annotations

import numpy as np

from segcore import masks
from segcore.segment_rle import to_rle
from segcore.structures import Polygons, Record, Rle, Segment, Size


def rings_of(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outer rings and holes of a mask (H, W) bool, each (C, 2) int64 x, y of its corners.

    Pixels that touch with a corner alone belong together. Rings are closed without repeating
    their first corner, and begin at the left one of their uppermost corners.
    """
    y, x, diagonal = _corners(mask)
    if not y.size:
        return [], []
    along_row = _partners(np.lexsort((x, y)))
    # at a corner of two pixels the two turns are told apart: each keeps the pixels together
    order = np.lexsort((diagonal, y, x))
    along_column = _partners(order)
    seen = np.zeros(y.size, bool)
    outer, holes = [], []
    for start in range(y.size):  # rings differ in length
        if seen[start]:
            continue
        ring, here = [], start
        while not seen[here]:
            there = along_row[here]
            seen[here] = seen[there] = True
            ring += [here, there]
            here = along_column[there]
        corners = np.stack([x[ring], y[ring]], 1)
        (outer if mask[y[start], x[start]] else holes).append(corners)
    return outer, holes


def _corners(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C,) y and x of the corners, row by row; where two pixels touch diagonally it stands twice.

    The third: which of the two is the upper one in its column, 0 before 1.
    """
    padded = np.pad(mask.astype(np.int8), 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    odd = ((a + b + c + d) % 2).astype(bool)
    falling, rising = (a == 1) & (d == 1) & (b + c == 0), (b == 1) & (c == 1) & (a + d == 0)
    y, x = np.nonzero(odd | falling | rising)
    twice = (falling | rising)[y, x]
    index = np.repeat(np.arange(y.size), 1 + twice)
    second = np.zeros(index.size, bool)
    second[1:] = index[1:] == index[:-1]
    # of a falling pair the left edge goes on downwards, of a rising one upwards
    turned = falling[y, x][index]
    return y[index], x[index], np.where(turned, ~second, second).astype(np.int8)


def _partners(order: np.ndarray) -> np.ndarray:
    """(C,) the other end of each corner's edge; in this order two and two are ends of one."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def outlines(rle: Rle) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`rings_of` a mask, looked at in its box alone."""
    x0, y0, x1, y1 = masks.boxes([rle])[0].astype(int).tolist()
    outer, holes = rings_of(masks.decode(rle)[y0:y1, x0:x1])
    corner = np.array([x0, y0])
    return [ring + corner for ring in outer], [ring + corner for ring in holes]


def one_ring(rle: Rle) -> tuple[float, ...]:
    """A single ring x0 y0 x1 y1 ... that holds all parts and holes of a mask; () of an empty one.

    Bridges from each part or hole to the next, walked there and back, cover nothing where inside
    and outside are told by counting crossings, as pycocotools and OpenCV do.
    """
    outer, holes = outlines(rle)
    if not outer:
        return ()
    rings = sorted([*outer, *holes], key=lambda ring: (ring[0, 1], ring[0, 0]))
    forth = [np.concatenate([ring, ring[:1]]) for ring in rings]
    back = [ring[:1] for ring in rings[-2::-1]]
    chain = np.concatenate([*forth, *back]) if back else rings[0]
    return tuple(chain.ravel().astype(float).tolist())


def single_ring(segment: Segment, record: Record) -> tuple[float, ...]:
    """A segment as one ring inside its image; a polygon that is one already stays."""
    shape = segment.shape
    if isinstance(shape, Polygons) and len(shape.rings) == 1 and inside(shape, record.size):
        return shape.rings[0]
    return one_ring(to_rle(segment, record.frames[0], record.size))


def inside(shape: Polygons, size: Size) -> bool:
    """Whether no corner lies outside of the image."""
    H, W = size
    return all(
        min(ring) >= 0 and max(ring[0::2]) <= W and max(ring[1::2]) <= H for ring in shape.rings
    )
