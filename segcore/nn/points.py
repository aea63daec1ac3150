"""Values of masks at points. Legend: M masks, T views, P points, H W pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (M, T, H, W) at points (M or 1, P, 2), x y in 0..1: (M, T, P).

    Outside is zero; pixel centres lie at (i + 0.5) / size, as in grid_sample without aligned
    corners. Computed in the points' precision.
    """
    grid = (2 * points - 1)[:, :, None].expand(len(maps), -1, -1, -1)  # (M, P, 1, 2)
    return F.grid_sample(maps.to(points.dtype), grid, align_corners=False)[..., 0]


def sample_bool(masks: Tensor, points: Tensor) -> Tensor:
    """`sample_points` of boolean masks, without a float copy of them: (M, T, P)."""
    H, W = masks.shape[-2:]
    x = points[..., 0] * W - 0.5  # (M or 1, P)
    y = points[..., 1] * H - 0.5
    x0, y0 = x.floor(), y.floor()
    flat = masks.flatten(2)  # (M, T, H*W)
    total = torch.zeros((*flat.shape[:2], points.shape[1]), dtype=points.dtype, device=flat.device)
    for step_y in (0, 1):
        for step_x in (0, 1):
            column, row = x0 + step_x, y0 + step_y
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < W) & (row >= 0) & (row < H)
            index = row.clamp(0, H - 1).long() * W + column.clamp(0, W - 1).long()
            index = index[:, None].expand(len(flat), flat.shape[1], -1)
            total += flat.gather(2, index) * (weight * inside)[:, None]
    return total
