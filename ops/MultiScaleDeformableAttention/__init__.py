"""Compiled multi-scale deformable attention.

Importing it gives the operators `segcore::*` (defined in segcore.nn.ms_deform_attn) their CPU and
CUDA kernels. The two functions are the old extension's, for other descendants of Deformable DETR.
"""

from pathlib import Path

import torch
from torch import Tensor

__all__ = ["ms_deform_attn_forward", "ms_deform_attn_backward"]

_BINARY = Path(__file__).with_name("_C.abi3.so")
_OLDEST = (2, 10)  # the stable ABI that it was built against

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST:
    raise ImportError(
        f"MultiScaleDeformableAttention was built for torch 2.10 and newer, this is "
        f"{torch.__version__}: update torch"
    )
try:
    torch.ops.load_library(_BINARY)
except OSError as error:
    raise ImportError(
        f"MultiScaleDeformableAttention cannot be loaded with torch {torch.__version__}; build it "
        f"again: pip install --force-reinstall --no-deps ./ops ({error})"
    ) from error


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """The old extension's forward: (B, S, heads, C) -> (B, Q, heads*C).

    `level_start_index` follows from the shapes and `im2col_step` from the machine: both are
    ignored. Locations and weights are taken in float32 (float64 with a float64 value).
    """
    shapes = spatial_shapes.flatten().tolist()
    exact = torch.promote_types(value.dtype, torch.float32)
    return torch.ops.msda.ms_deform_attn(
        value, shapes, sampling_loc.to(exact), attn_weight.to(exact)
    )


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    im2col_step: int,
) -> list[Tensor]:
    """The old extension's backward: gradients of value, locations and weights."""
    shapes = spatial_shapes.flatten().tolist()
    exact = torch.promote_types(value.dtype, torch.float32)
    grads = torch.ops.msda.ms_deform_attn_backward(
        grad_output, value, shapes, sampling_loc.to(exact), attn_weight.to(exact)
    )
    like = (value, sampling_loc, attn_weight)
    return [grad.to(x.dtype) for grad, x in zip(grads, like, strict=True)]
