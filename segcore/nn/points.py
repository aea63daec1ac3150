"""Values of masks at points.

Legend of one-letter names: N masks, R rows of points, T views, P points, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BUDGET = 1 << 25  # pixels around points that are looked up at a time, whatever the number of masks


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (N, T, H, W) at points (N, P, 2), x y in 0..1: (N, T, P).

    Outside is zero; pixel centres lie at (i + 0.5) / size, as in grid_sample without aligned
    corners. Computed in the points' precision.
    """
    grid = (2 * points - 1)[:, :, None]  # (N, P, 1, 2)
    maps = maps.to(points.dtype)
    parts = _parts(maps)
    maps = maps.unflatten(1, (parts, -1)).flatten(0, 1)  # (N * parts, T / parts, H, W)
    grid = grid[:, None].expand(-1, parts, -1, -1, -1).flatten(0, 1)
    values = F.grid_sample(maps, grid, align_corners=False)[..., 0]
    return values.unflatten(0, (-1, parts)).flatten(1, 2)


def _parts(maps: Tensor) -> int:
    """In how many of views each map is looked up: a CPU's threads share maps out, not views."""
    if maps.is_cuda or len(maps) > 1:
        return 1
    threads = torch.get_num_threads()
    return next((n for n in range(threads, 1, -1) if maps.shape[1] % n == 0), 1)


def as_quickly_read(masks: Tensor) -> Tensor:
    """Boolean masks (N, T, H, W) as they are looked up in the least time: on a CPU, while they are
    few, in float32."""
    return masks if masks.is_cuda or masks.numel() > BUDGET else masks.float()


def sample_bool(masks: Tensor, points: Tensor) -> Tensor:
    """Values of masks (N, T, H, W) at points (P, 2): (N, T, P); of boolean ones without a copy."""
    if masks.is_floating_point():
        return sample_points(masks, points.expand(len(masks), -1, -1))
    flat = masks.flatten(2)
    index, weight = _corners(points, masks.shape[-2], masks.shape[-1])  # (4, P)
    values = []
    for few in flat.split(max(1, BUDGET // max(1, flat.shape[1] * index.numel()))):
        near = few.gather(2, index.flatten().expand(*few.shape[:2], -1))  # (N, T, 4*P)
        values.append(near.unflatten(2, index.shape).mul(weight).sum(2))
    return values[0] if len(values) == 1 else torch.cat(values)


def sample_rows(masks: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    """The same for `rows` (R,) of the masks, each view at points of its own (R, T, P, 2).

    Returns:
        (R, T, P)
    """
    if masks.is_floating_point():
        return _rows_of_float(masks, rows, points)
    few = max(1, BUDGET // max(1, 4 * points[:1, ..., 0].numel()))
    parts = zip(rows.split(few), points.split(few), strict=True)
    values = [_few_rows(masks, *part) for part in parts]
    return values[0] if len(values) == 1 else torch.cat(values)


def _rows_of_float(masks: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    order = rows.argsort()
    if torch.equal(rows[order], torch.arange(len(masks), device=rows.device)):
        return _each_view(masks, points[order])[rows]  # each once: points are less to copy
    return _each_view(masks[rows], points)


def _each_view(masks: Tensor, points: Tensor) -> Tensor:
    """(R, T, H, W), each view at points of its own (R, T, P, 2): (R, T, P)."""
    values = sample_points(masks.flatten(0, 1)[:, None], points.flatten(0, 1))  # (R*T, 1, P)
    return values.view(points.shape[:-1])


def _few_rows(masks: Tensor, rows: Tensor, points: Tensor) -> Tensor:
    T, H, W = masks.shape[1:]
    index, weight = _corners(points, H, W)  # (R, T, 4, P)
    plane = rows[:, None] * T + torch.arange(T, device=rows.device)  # (R, T)
    index += (plane * (H * W))[..., None, None]
    return masks.take(index).mul(weight).sum(2)


def _corners(points: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Indices y * W + x and weights, (..., 4, P), of the pixels around points (..., P, 2)."""
    columns, across = _neighbours(points[..., 0] * W - 0.5, W)  # (..., 2, P)
    rows, down = _neighbours(points[..., 1] * H - 0.5, H)
    index = (rows * W)[..., None, :] + columns[..., None, :, :]  # (..., 2, 2, P)
    weight = down[..., None, :] * across[..., None, :, :]
    return index.flatten(-3, -2), weight.flatten(-3, -2)


def _neighbours(x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The pixels before and after places (..., P) on one axis, their weights: (..., 2, P).

    Those outside weigh nothing.
    """
    before = x.floor()
    pixel = torch.stack((before, before + 1), dim=-2)
    weight = 1 - (x[..., None, :] - pixel).abs_()
    inside = (pixel >= 0) & (pixel < length)
    return pixel.clamp_(0, length - 1).long(), weight.mul_(inside)
