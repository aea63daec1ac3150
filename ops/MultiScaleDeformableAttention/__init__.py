"""Compiled multi-scale deformable attention.

Importing it gives the operators `segcore::*` (defined in segcore.nn.ms_deform_attn) their CPU and
CUDA kernels. The two functions are the old extension's, for other descendants of Deformable DETR.
"""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["cuda_problem", "ms_deform_attn_forward", "ms_deform_attn_backward"]

_WITHOUT_CUDA = Path(__file__).with_name("without_cuda.txt")  # setup.py writes the reason there
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


def cuda_problem(device: int) -> str:
    """Why the kernels cannot run on a GPU, in one line; empty where they can."""
    if _WITHOUT_CUDA.exists():
        return f"they were built without CUDA, as {_WITHOUT_CUDA.read_text().strip()}"
    library = ctypes.CDLL(str(_BINARY))
    if not hasattr(library, "msda_cuda_problem"):
        return "they were built without CUDA"
    library.msda_cuda_problem.restype = ctypes.c_char_p
    with torch.cuda.device(device):
        return (library.msda_cuda_problem() or b"").decode()


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
