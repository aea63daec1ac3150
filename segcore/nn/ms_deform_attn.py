"""Multi-scale deformable attention (Deformable DETR, section 4.1): the one door to the op.

`segcore::ms_deform_attn` and the fused `segcore::deform_attn` are defined here with a PyTorch
reference; compiled kernels for the same names, where installed, are found by the dispatcher.

Legend of one-letter names: B samples, Q queries, C channels of a head, L levels, P points,
S tokens, h w feature cells.
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor
from torch.nn import functional as F


def _reference(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, by grid_sample; any device, differentiable."""
    B, S, heads, C = value.shape
    Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
    sizes = [shapes[2 * i] * shapes[2 * i + 1] for i in range(L)]
    kind = torch.promote_types(value.dtype, torch.float32)
    # points that are not finite read nothing; far outside does the same
    locations = torch.where(locations.isfinite().all(-1, keepdim=True), locations, -10.0).to(kind)
    by_head = value.to(kind).permute(0, 2, 3, 1).flatten(0, 1)  # (B*heads, C, S)
    levels = by_head.split(sizes, dim=2)
    sampled = []
    for level, tokens in enumerate(levels):
        h, w = shapes[2 * level], shapes[2 * level + 1]
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1  # (B*heads, Q, P, 2)
        maps = tokens.unflatten(2, (h, w))
        sampled.append(F.grid_sample(maps, grid, align_corners=False))  # (B*heads, C, Q, P)
    weight = weights.to(kind).permute(0, 2, 1, 3, 4).reshape(B * heads, 1, Q, L * P)
    out = (torch.stack(sampled, dim=3).flatten(3) * weight).sum(-1)  # (B*heads, C, Q)
    return out.view(B, heads * C, Q).transpose(1, 2).contiguous().to(value.dtype)


def _locations(reference: Tensor, shapes: list[int], offsets: Tensor) -> Tensor:
    """Normalised sampling locations in at least fp32: (B, Q, heads, L, P, 2)."""
    kind = torch.promote_types(offsets.dtype, torch.float32)
    scale = [[shapes[i + 1], shapes[i]] for i in range(0, len(shapes), 2)]  # (w, h) a level
    wh = torch.tensor(scale, dtype=kind, device=offsets.device)
    return reference[:, :, None, :, None].to(kind) + offsets.to(kind) / wh[:, None]


def _fused_reference(
    value: Tensor, shapes: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    kind = torch.promote_types(logits.dtype, torch.float32)
    weights = logits.to(kind).softmax(-1).unflatten(-1, offsets.shape[3:5])
    return _reference(value, shapes, _locations(reference, shapes, offsets), weights)


def ms_deform_attn(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Sum of bilinear samples of each level, weighted.

    Args:
        value: (B, S, heads, C), the levels' tokens one after the other, each row-major.
        shapes: h0, w0, h1, w1, ... as Python ints.
        locations: (B, Q, heads, L, P, 2) x y, 0 and 1 at the outer edges of a level.
        weights: (B, Q, heads, L, P).

    Returns: (B, Q, heads*C). Points outside a level, or not finite, contribute zero.
    """
    return _reference(value, shapes, locations, weights)


def deform_attn(
    value: Tensor, shapes: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """Softmax, location arithmetic and sampling in one.

    Args:
        value: (B, S, heads, C).
        shapes: h0, w0, h1, w1, ... as Python ints.
        reference: (B or 1, Q, L or 1, 2) x y in 0..1.
        offsets: (B, Q, heads, L, P, 2) in pixels of each level.
        logits: (B, Q, heads, L*P), softmax over all levels and points.

    Returns: (B, Q, heads*C).
    """
    return _fused_reference(value, shapes, reference, offsets, logits)


with suppress(ModuleNotFoundError):
    import MultiScaleDeformableAttention  # noqa: F401  # pyright: ignore  # compiled kernels, found by the dispatcher
