"""Boxes as numbers: anchors, how far one box is from another, sizes.

Legend of one-letter names: B images, A anchors, h w cells of a feature map.
Boxes are x0 y0 x1 y1 in input pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LIMIT = math.log(1000 / 16)  # of the logarithm of a change of size

Weights = tuple[float, float, float, float]
REGION_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)  # deltas of the box head are as much larger


def cell_anchors(size: float, ratios: Sequence[float]) -> Tensor:
    """(len(ratios), 4) around the origin.

    Args:
        size: root of the area in pixels.
        ratios: height over width.
    """
    rows = []
    for ratio in ratios:
        w = math.sqrt(size**2 / ratio)
        h = ratio * w
        rows.append([-w / 2, -h / 2, w / 2, h / 2])
    return torch.tensor(rows)


def grid_anchors(cells: Tensor, h: int, w: int, stride: int) -> Tensor:
    """(h w len(cells), 4): the cell's anchors at every (x, y) * stride, row-major, no offset."""
    y = torch.arange(0, h * stride, stride, device=cells.device, dtype=cells.dtype)
    x = torch.arange(0, w * stride, stride, device=cells.device, dtype=cells.dtype)
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((x, y, x, y), -1).reshape(-1, 1, 4)
    return (shifts + cells).reshape(-1, 4)


def encode(boxes: Tensor, goals: Tensor, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """(..., 4) deltas that lead from boxes to goals (R-CNN, appendix C)."""
    x, y, w, h = _centres(boxes)
    u, v, s, t = _centres(goals)
    parts = ((u - x) / w, (v - y) / h, (s / w).log(), (t / h).log())
    return torch.stack([p * weight for p, weight in zip(parts, weights, strict=True)], -1)


def decode(
    boxes: Tensor,
    deltas: Tensor,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    *,
    shrink_limited: bool = False,
) -> Tensor:
    """The inverse of `encode`: (..., 4).

    Args:
        shrink_limited: sizes are clamped below as well as above.
    """
    x, y, w, h = _centres(boxes)
    low = -LIMIT if shrink_limited else None
    dx, dy, dw, dh = (d / weight for d, weight in zip(deltas.unbind(-1), weights, strict=True))
    x, y = x + dx * w, y + dy * h
    w, h = w * dw.clamp(low, LIMIT).exp(), h * dh.clamp(low, LIMIT).exp()
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x0, y0, x1, y1 = boxes.unbind(-1)
    w, h = x1 - x0, y1 - y0
    return x0 + w / 2, y0 + h / 2, w, h


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (..., 4) cut to sizes (..., 2), height and width."""
    wide = sizes.flip(-1)
    return boxes.clamp(min=0).minimum(torch.cat((wide, wide), -1))


def has_area(boxes: Tensor) -> Tensor:
    """(...) bool of (..., 4)."""
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)
