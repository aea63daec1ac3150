"""GroupNorm of channels-last maps in one door: compiled and in place on a CPU, else PyTorch's.

Legend of one-letter names: B images, C channels, h w feature cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn import ms_deform_attn  # its compiled kernels come with this one

VECTOR = 16  # channels come in multiples of it
KINDS = (torch.float32, torch.bfloat16)  # the second is made the first


def has_group_norm(x: Tensor) -> bool:
    """Whether the compiled kernel takes this map: an older build of the kernels has none."""
    compiled = ms_deform_attn.compiled and hasattr(torch.ops.msda, "group_norm")
    fits = x.device.type == "cpu" and x.dtype in KINDS and x.shape[1] % VECTOR == 0
    return bool(compiled) and fits


def group_norm_(
    x: Tensor,
    norm: nn.GroupNorm,
    *,
    relu: bool = False,
    coarse: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The norm of a map, for inference.

    Args:
        x: (B, C, h, w), best channels-last; overwritten where the kernel can, and nobody's after.
        relu: at the end.
        coarse: (B, C, h', w') resized bilinearly and added, before ReLU.
        out: (B, C, h, w) for the result, each of its images channels-last.

    Returns: the result, channels-last.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if not has_group_norm(x) or not _exact(norm):
        return _reference(x, norm, relu, coarse, out)
    x = x.float()
    last, to = (0, 2, 3, 1), x if out is None else out
    if coarse is not None:
        coarse = coarse.float().permute(last)
        coarse = coarse if coarse[0].is_contiguous() else coarse.contiguous()
    kind = (norm.num_groups, norm.weight, norm.bias, norm.eps, relu)
    torch.ops.msda.group_norm(x.permute(last), to.permute(last), *kind, coarse)
    return to


def _exact(norm: nn.GroupNorm) -> bool:
    """Whether its weight and bias are as the kernel takes them."""
    return all(v is not None and v.dtype == torch.float32 for v in (norm.weight, norm.bias))


def _reference(
    x: Tensor, norm: nn.GroupNorm, relu: bool, coarse: Tensor | None, out: Tensor | None
) -> Tensor:
    y = norm(x)
    if coarse is not None:
        y += F.interpolate(coarse.contiguous(), y.shape[-2:], mode="bilinear")
    y = y.relu_() if relu else y
    return y if out is None else out.copy_(y)
