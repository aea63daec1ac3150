"""Masks between files, RLE and pixels: the one door to pycocotools' mask functions.

Legend of one-letter names: N masks, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from pycocotools import mask

from segcore.structures import Rle, Size

AREAS_AT_ONCE = 255  # pycocotools stores the number of masks in a byte there, and raises beyond
coco_mask: Any = mask  # its stubs know nothing of RLEs as dictionaries


def encode(masks: np.ndarray) -> list[Rle]:
    """(N, H, W) bool or uint8 -> N RLEs."""
    return [
        coco_mask.encode(np.asfortranarray(one, dtype=np.uint8))  # column-major is its layout
        for one in masks
    ]


def decode(rle: Rle) -> np.ndarray:
    """(H, W) bool."""
    return coco_mask.decode(rle).astype(bool)


def area(rles: Iterable[Rle]) -> np.ndarray:
    """(N,) pixels of each."""
    listed = list(rles)
    parts = [listed[i : i + AREAS_AT_ONCE] for i in range(0, len(listed), AREAS_AT_ONCE)]
    return np.concatenate([coco_mask.area(part) for part in parts] or [np.zeros(0, np.uint32)])


def boxes(rles: Iterable[Rle]) -> np.ndarray:
    """(N, 4) float64 tight around each, x0 y0 x1 y1 with exclusive ends; zeros where empty."""
    found = coco_mask.toBbox(list(rles)).reshape(-1, 4)  # x y w h
    return np.concatenate((found[:, :2], found[:, :2] + found[:, 2:]), axis=1)


def union(rles: Iterable[Rle]) -> Rle:
    """All pixels of several masks of one size."""
    return coco_mask.merge(list(rles))


def iou(rles: Sequence[Rle], others: Sequence[Rle]) -> np.ndarray:
    """(N, M) of each mask with each other mask; nothing with nothing is 0."""
    if not rles or not others:
        return np.zeros((len(rles), len(others)))
    return coco_mask.iou(list(rles), list(others), [0] * len(others))


def compress(counts: list[int], size: Size) -> Rle:
    """Run lengths (column-major, zeros first) -> RLE."""
    return coco_mask.frPyObjects({"counts": counts, "size": list(size)}, *size)


def to_text(rle: Rle) -> dict[str, Any]:
    """An RLE as JSON has it, with text in the place of bytes."""
    return {"size": rle["size"], "counts": bytes(rle["counts"]).decode()}


def from_text(rle: dict[str, Any]) -> Rle:
    """The inverse of `to_text`."""
    return {"size": rle["size"], "counts": rle["counts"].encode()}


def encode_ids(ids: np.ndarray, numbers: Sequence[int]) -> list[Rle]:
    """(H, W) ids -> the RLE of each number, without an image per segment."""
    flat = ids.T.ravel()  # column-major, as RLEs are
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    values, starts, ends = values[order], starts[order], ends[order]
    first = np.searchsorted(values, numbers, "left")
    last = np.searchsorted(values, numbers, "right")
    rles = []
    for a, b in zip(first.tolist(), last.tolist(), strict=True):  # RLEs differ in length
        edges = np.stack([starts[a:b], ends[a:b]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size).tolist()
        if counts[-1] == 0:
            counts.pop()
        rles.append(compress(counts, (ids.shape[0], ids.shape[1])))
    return rles


def rasterise(shapes: Sequence[Sequence[Sequence[float]]], size: Size) -> np.ndarray:
    """(N, H, W) bool of N shapes, each of one or more polygons x0 y0 x1 y1 ... in pixels."""
    rings = [list(ring) for shape in shapes for ring in shape]
    if not rings:
        return np.zeros((len(shapes), *size), bool)
    parts = iter(coco_mask.frPyObjects(rings, *size))
    rles = [coco_mask.merge(list(islice(parts, len(shape)))) for shape in shapes]
    return coco_mask.decode(rles).transpose(2, 0, 1).astype(bool)


def encode_polygons(rings: Sequence[Sequence[float]], size: Size) -> Rle:
    """One RLE of what lies in any of the polygons x0 y0 x1 y1 ... in pixels."""
    return coco_mask.merge(coco_mask.frPyObjects([list(ring) for ring in rings], *size))
