"""Multi-scale deformable attention (Deformable DETR, section 4.1): the one door to the op.

Four operators, `segcore::{ms_deform_attn, deform_attn}` and their `_backward`, are defined here
with a PyTorch implementation that is the fallback and the tests' oracle. Compiled kernels for the
same names (`pip install ./ops`), where installed, are found by the dispatcher; CUDA without them
takes Triton's.

Legend of one-letter names: B samples, Q queries, C channels of a head, L levels, P points,
S tokens, h w feature cells.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

logger = logging.getLogger(__name__)


def ms_deform_attn(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Sum of bilinear samples of each level, weighted.

    Args:
        value: (B, S, heads, C), the levels' tokens one after the other, each row-major.
        shapes: h0, w0, h1, w1, ... as Python ints.
        locations: (B, Q, heads, L, P, 2) x y, 0 and 1 at the outer edges of a level.
        weights: (B, Q, heads, L, P).

    Returns: (B, Q, heads*C) in value's type. A point contributes, and has gradients, only where
    its bilinear footprint touches the level; one outside, or not finite, counts as zero.
    """
    if value.is_cuda:
        _choose_kernels(value.device.index)
    kind = torch.promote_types(value.dtype, torch.float32)
    return _sample(value, shapes, locations.to(kind), weights.to(kind))


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

    Returns: (B, Q, heads*C) in value's type.
    """
    if value.is_cuda:
        _choose_kernels(value.device.index)
    kind = torch.promote_types(value.dtype, torch.float32)  # locations in bf16 would move
    return _attend(value, shapes, reference.to(kind), offsets.to(kind), logits.to(kind))


def deform_attn_by_grid_sample(
    value: Tensor, shapes: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """`deform_attn` by PyTorch's own operators, which exported graphs hold."""
    return _fused(_reference, value, shapes, reference, offsets, logits)


# ---------------------------------------------------------------- the operators


@torch.library.custom_op("segcore::ms_deform_attn", mutates_args=())
def _sample(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    _say_what_is_missing()
    return _reference(value, shapes, locations, weights)


@torch.library.custom_op("segcore::ms_deform_attn_backward", mutates_args=())
def _sample_backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _reference_backward(grad, value, shapes, locations, weights)


@torch.library.custom_op("segcore::deform_attn", mutates_args=())
def _attend(
    value: Tensor, shapes: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    _say_what_is_missing()
    return _fused(_reference, value, shapes, reference, offsets, logits)


@torch.library.custom_op("segcore::deform_attn_backward", mutates_args=())
def _attend_backward(
    grad: Tensor,
    value: Tensor,
    shapes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, offsets and logits; the reference's follows from the offsets'."""
    return _fused_backward(_reference_backward, grad, value, shapes, reference, offsets, logits)


@functools.cache
def _say_what_is_missing() -> None:
    logger.warning(
        "deformable attention runs on PyTorch alone, many times slower than compiled: "
        "pip install ./ops (needs g++; nvcc for CUDA)"
    )


@_sample.register_fake
def _(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@_attend.register_fake
def _(
    value: Tensor, shapes: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    return value.new_empty(value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])


@_sample_backward.register_fake
def _(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return _blank(value), _blank(locations), _blank(weights)


@_attend_backward.register_fake
def _(
    grad: Tensor,
    value: Tensor,
    shapes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return _blank(value), _blank(offsets), _blank(logits)


def _blank(like: Tensor) -> Tensor:
    """Contiguous, as the gradients are whatever their tensors' strides."""
    return like.new_empty(like.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, shapes, *points = inputs
    ctx.shapes = shapes
    ctx.save_for_backward(value, *points)


def _sample_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    grads = _sample_backward(grad, value, ctx.shapes, locations, weights)
    return grads[0], None, grads[1], grads[2]


def _attend_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, reference, offsets, logits = ctx.saved_tensors
    grad_value, grad_offsets, grad_logits = _attend_backward(
        grad, value, ctx.shapes, reference, offsets, logits
    )
    grad_reference = None
    if ctx.needs_input_grad[2]:  # location = reference + offset / (w, h)
        moved = (grad_offsets * _scale(ctx.shapes, offsets)).sum((2, 4))  # (B, Q, L, 2)
        grad_reference = moved.sum_to_size(reference.shape)
    return grad_value, None, grad_reference, grad_offsets, grad_logits


_sample.register_autograd(_sample_gradients, setup_context=_keep)
_attend.register_autograd(_attend_gradients, setup_context=_keep)


# ---------------------------------------------------------------- the definition, in PyTorch


def _scale(shapes: Sequence[int], like: Tensor) -> Tensor:
    """(L, 1, 2): width and height of each level; a copy from the host would make a GPU's wait."""
    scale = like.new_empty(len(shapes) // 2, 1, 2)
    for level, (h, w) in enumerate(zip(shapes[::2], shapes[1::2], strict=True)):
        scale[level, 0, 0].fill_(w)
        scale[level, 0, 1].fill_(h)
    return scale


def _locations(reference: Tensor, shapes: Sequence[int], offsets: Tensor) -> Tensor:
    """Normalised sampling locations: (B, Q, heads, L, P, 2)."""
    return reference[:, :, None, :, None] + offsets / _scale(shapes, offsets)


def _weights(logits: Tensor, offsets: Tensor) -> Tensor:
    """(B, Q, heads, L, P), softmax over all levels and points."""
    return logits.softmax(-1).unflatten(-1, offsets.shape[3:5])


def _maps(value: Tensor, shapes: Sequence[int], kind: torch.dtype) -> list[Tensor]:
    """One (B*heads, C, h, w) a level."""
    sides = list(zip(shapes[::2], shapes[1::2], strict=True))
    tokens = value.to(kind).permute(0, 2, 3, 1).flatten(0, 1)  # (B*heads, C, S)
    levels = tokens.split([h * w for h, w in sides], dim=2)
    return [x.unflatten(2, side) for x, side in zip(levels, sides, strict=True)]


def _grids(
    locations: Tensor, weights: Tensor, shapes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """grid_sample's coordinates, weights and who is inside, each (B*heads, L, P, Q, ...).

    Queries come last: so the sum over points is one of long rows.
    """
    scale = _scale(shapes, locations)
    pixels = locations * scale - 0.5
    inside = ((pixels > -1) & (pixels < scale)).all(-1)  # false for NaN
    grid = torch.where(inside[..., None], 2 * locations - 1, -10.0)
    weights = weights.where(inside, 0.0)
    grid, weights, inside = (x.movedim(1, 4).flatten(0, 1) for x in (grid, weights, inside))
    return grid, weights, inside


def _reference(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """The definition, by grid_sample; any device."""
    B, Q, heads = locations.shape[:3]
    grid, weights, _ = _grids(locations, weights, shapes)
    out = locations.new_zeros(B * heads, value.shape[3], Q)
    if Q:
        for level, tokens in enumerate(_maps(value, shapes, locations.dtype)):
            samples = F.grid_sample(tokens, grid[:, level], align_corners=False)
            out = out + (samples * weights[:, None, level]).sum(2)  # (B*heads, C, P, Q)
    return out.view(B, heads * value.shape[3], Q).transpose(1, 2).contiguous().to(value.dtype)


def _reference_backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights."""
    B, Q, heads = locations.shape[:3]
    if not Q:
        return torch.zeros_like(value), torch.empty_like(locations), torch.empty_like(weights)
    grid, weight, inside = _grids(locations, weights, shapes)
    grad_out = grad.to(locations.dtype).unflatten(2, (heads, -1)).permute(0, 2, 3, 1)
    grad_out = grad_out.flatten(0, 1)[:, :, None]  # (B*heads, C, 1, Q)
    by_level: list[tuple[Tensor, Tensor, Tensor]] = []
    for level, tokens in enumerate(_maps(value, shapes, locations.dtype)):
        at = grid[:, level]
        grad_weight = (F.grid_sample(tokens, at, align_corners=False) * grad_out).sum(1)
        grad_samples = grad_out * weight[:, None, level]
        grad_maps, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad_samples.contiguous(), tokens, at, 0, 0, False, [True, True]
        )
        grad_grid = 2 * grad_grid.where(inside[:, level, ..., None], 0.0)
        by_level.append((grad_maps.flatten(2), grad_grid, grad_weight))
    maps, grids, points = zip(*by_level, strict=True)
    grad_value = torch.cat(maps, 2).unflatten(0, (B, heads)).permute(0, 3, 1, 2)
    grad_locations = torch.stack(grids, 1).unflatten(0, (B, heads)).movedim(4, 1)
    grad_weights = torch.stack(points, 1).unflatten(0, (B, heads)).movedim(4, 1)
    return (
        grad_value.contiguous().to(value.dtype),
        grad_locations.contiguous(),
        grad_weights.contiguous(),
    )


def _fused(
    sample: Callable[..., Tensor],
    value: Tensor,
    shapes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> Tensor:
    """The fused entry by `sample`, an implementation of the plain one."""
    return sample(value, shapes, _locations(reference, shapes, offsets), _weights(logits, offsets))


def _fused_backward(
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]],
    grad: Tensor,
    value: Tensor,
    shapes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Its gradients by the plain one's `backward`."""
    locations, weights = _locations(reference, shapes, offsets), _weights(logits, offsets)
    grad_value, grad_locations, grad_weights = backward(grad, value, shapes, locations, weights)
    slope = weights * grad_weights
    grad_logits = slope - weights * slope.sum((-2, -1), keepdim=True)
    return grad_value, grad_locations / _scale(shapes, offsets), grad_logits.flatten(3)


# ---------------------------------------------------------------- other implementations

try:
    import MultiScaleDeformableAttention as compiled  # pyright: ignore
except ModuleNotFoundError:
    compiled = None  # said at the first use
except ImportError as error:
    compiled = None
    logger.warning("%s", error)


@torch.compiler.assume_constant_result
def _choose_kernels(gpu: int) -> bool:
    """Other kernels for CUDA, where the compiled ones cannot run on this GPU; said once."""
    return _replaced(gpu)


@functools.cache
def _replaced(gpu: int) -> bool:
    if not torch.cuda.is_available():  # a tensor that is none
        return False
    problem = "they are not installed: pip install ./ops"
    if compiled:  # older ones, which could crash there, cannot be asked
        ask = getattr(compiled, "cuda_problem", None)
        problem = ask(gpu) if ask else "they are of an older version: pip install ./ops"
    if not problem:
        return False
    triton = importlib.util.find_spec("triton") is not None
    with warnings.catch_warnings():  # of torch, that the operators had kernels already
        warnings.simplefilter("ignore")
        (_use_triton if triton else _use_pytorch)()
    logger.warning(
        "deformable attention: the compiled kernels cannot run on %s (%s); %s",
        torch.cuda.get_device_name(gpu),
        problem,
        "Triton's take over" if triton else "PyTorch alone takes over, many times slower",
    )
    return True


def _use_triton() -> None:
    from segcore.nn import ms_deform_attn_triton as kernels  # optional third party

    _use(kernels.forward, kernels.backward)


def _use_pytorch() -> None:
    _use(_reference, _reference_backward)


def _use(
    forward: Callable[..., Tensor], backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Kernels of the plain operators for CUDA; the fused ones follow."""
    _sample.register_kernel("cuda", forward)
    _sample_backward.register_kernel("cuda", backward)
    _attend.register_kernel("cuda", functools.partial(_fused, forward))
    _attend_backward.register_kernel("cuda", functools.partial(_fused_backward, backward))
