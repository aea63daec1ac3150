"""All masks at the same points, and what pairwise costs need of them.

On a CPU one compiled pass, where `pip install ./ops` has it; the same in PyTorch is the fallback
and the tests' oracle.

Legend of one-letter names: ... any number of masks, N of one sample, T views, P points, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.nn.layers import stack_or_view
from segcore.nn.mask_rles import has_compiled
from segcore.nn.points import sample_points

KINDS = (torch.float32, torch.bfloat16)


class SampledMasks(NamedTuple):
    """Logits at points of all views, in float32."""

    values: Tensor  # (..., T*P)
    probs: Tensor  # (..., T*P) sigmoid(values)
    softplus: Tensor  # (...) sums of softplus(values)


def sample_masks(masks: Tensor, points: Tensor) -> SampledMasks:
    """Bilinear values as of `sample_points`, without gradients.

    Args:
        masks: (B, N, T, h, w) logits.
        points: (B, P, 2) float32, x y in 0..1, one set for all masks and views of a sample.
    """
    fits = masks.dtype in KINDS and points.dtype == torch.float32 and masks.numel() > 0
    if not fits or not has_compiled(masks, "sample_masks"):
        return _reference(masks.detach(), points)
    sampled = [
        torch.ops.msda.sample_masks(each.flatten(0, 1), at)
        for each, at in zip(masks.detach(), points, strict=True)
    ]
    values, probs, sums = stacked(sampled)
    shape = masks.shape[1:3]
    values, probs = (x.unflatten(1, shape).flatten(2) for x in (values, probs))
    return SampledMasks(values, probs, sums.unflatten(1, shape).sum(2))


def stacked(each: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The first tensors of each in one, the second ones, ...; a single one's without a copy."""
    return [stack_or_view(parts) for parts in zip(*each, strict=True)]


def _reference(masks: Tensor, points: Tensor) -> SampledMasks:
    values = sample_points(masks.float().flatten(1, 2), points)  # (B, N*T, P)
    values = values.unflatten(1, masks.shape[1:3]).flatten(2)
    return SampledMasks(values, values.sigmoid(), F.softplus(values).sum(-1))
