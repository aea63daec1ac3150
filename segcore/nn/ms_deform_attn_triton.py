"""Triton kernels of the sampling op: the way on CUDA where `ops/` was not built with nvcc.

A program has a block of queries of one head. Softmax and location arithmetic of the fused entry
stay PyTorch's; the compiled kernels do them in one pass.

Legend of one-letter names: B samples, Q queries, C channels of a head, L levels, P points,
S tokens, h w feature cells.
"""

# Triton's functions are not Python's to a type checker
# pyright: reportArgumentType=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportMissingImports=false, reportIndexIssue=false, reportCallIssue=false
from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_Q = 32


@triton.jit
def _pixel(at, w, h):
    """Pixel coordinates of the points at `at`, their upper left pixel, and who is inside."""
    x = tl.load(at) * w - 0.5
    y = tl.load(at + 1) * h - 0.5
    inside = (x > -1) & (y > -1) & (x < w) & (y < h)  # false for NaN
    x = tl.where(inside, x, 0.0)
    y = tl.where(inside, y, 0.0)
    left, top = tl.floor(x), tl.floor(y)
    return x - left, y - top, left.to(tl.int32), top.to(tl.int32), inside


@triton.jit(do_not_specialize=["S", "Q"])
def _forward(
    value, locations, weights, out, shapes, S, Q, heads, C,
    L: tl.constexpr, P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(0).to(tl.int64) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    exists = query < Q
    set_of = (sample * Q + tl.minimum(query, Q - 1)) * heads + head
    channel = tl.arange(0, BLOCK_C)[None, :]
    rows = value + (sample * S * heads + head) * C + channel
    total = tl.zeros((BLOCK_Q, BLOCK_C), locations.dtype.element_ty)
    start = 0
    for level in tl.static_range(L):
        h, w = tl.cast(shapes[2 * level], tl.int32), tl.cast(shapes[2 * level + 1], tl.int32)
        for number in tl.static_range(level * P, level * P + P):
            point = set_of * (L * P) + number
            dx, dy, left, top, inside = _pixel(locations + 2 * point, w, h)
            attention = tl.where(inside, tl.load(weights + point), 0.0)
            for corner in tl.static_range(4):
                x, y = left + corner % 2, top + corner // 2
                weight = (dx if corner % 2 else 1 - dx) * (dy if corner // 2 else 1 - dy)
                hit = inside & (x >= 0) & (x < w) & (y >= 0) & (y < h)
                token = (start + y * w + x).to(tl.int64)[:, None]
                found = tl.load(
                    rows + token * heads * C, mask=hit[:, None] & (channel < C), other=0.0
                )
                total += (attention * weight)[:, None] * found
        start += h * w
    at = out + set_of[:, None] * C + channel
    tl.store(at, total.to(out.dtype.element_ty), mask=exists[:, None] & (channel < C))


@triton.jit(do_not_specialize=["S", "Q"])
def _backward(
    grad, value, locations, weights, grad_value, grad_locations, grad_weights, shapes,
    S, Q, heads, C,
    L: tl.constexpr, P: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(0).to(tl.int64) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    head, sample = tl.program_id(1), tl.program_id(2).to(tl.int64)
    exists = query < Q
    set_of = (sample * Q + tl.minimum(query, Q - 1)) * heads + head
    channel = tl.arange(0, BLOCK_C)[None, :]
    whole = (channel < C) & exists[:, None]
    above = tl.load(grad + set_of[:, None] * C + channel, mask=whole, other=0.0)
    above = above.to(locations.dtype.element_ty)
    first = (sample * S * heads + head) * C + channel
    start = 0
    for level in tl.static_range(L):
        h, w = tl.cast(shapes[2 * level], tl.int32), tl.cast(shapes[2 * level + 1], tl.int32)
        for number in tl.static_range(level * P, level * P + P):
            point = set_of * (L * P) + number
            dx, dy, left, top, inside = _pixel(locations + 2 * point, w, h)
            attention = tl.where(inside, tl.load(weights + point), 0.0)
            along_x, along_y, slope = attention * 0, attention * 0, attention * 0
            for corner in tl.static_range(4):
                x, y = left + corner % 2, top + corner // 2
                weight_x = dx if corner % 2 else 1 - dx
                weight_y = dy if corner // 2 else 1 - dy
                hit = inside & (x >= 0) & (x < w) & (y >= 0) & (y < h)
                at = first + (start + y * w + x).to(tl.int64)[:, None] * heads * C
                mask = hit[:, None] & whole
                dot = tl.sum(tl.load(value + at, mask=mask, other=0.0) * above, 1)
                along_x += weight_y * (dot if corner % 2 else -dot)
                along_y += weight_x * (dot if corner // 2 else -dot)
                slope += weight_x * weight_y * dot
                given = (attention * weight_x * weight_y)[:, None] * above
                tl.atomic_add(grad_value + at, given, mask=mask, sem="relaxed")
            tl.store(grad_locations + 2 * point, attention * along_x * w, mask=exists)
            tl.store(grad_locations + 2 * point + 1, attention * along_y * h, mask=exists)
            tl.store(grad_weights + point, slope, mask=exists)
        start += h * w


def _numbers(shapes: Sequence[int]) -> tuple[float, ...]:
    """Triton compiles anew for ints that are 1 or multiples of 16, as images' sizes may be."""
    return tuple(float(side) for side in shapes)


def forward(value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """As segcore.nn.ms_deform_attn.ms_deform_attn; locations and weights in fp32 or fp64."""
    B, S, heads, C = value.shape
    Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
    out = value.new_empty(B, Q, heads * C)
    if out.numel():
        with torch.cuda.device_of(value):  # Triton launches on the current device
            _forward[triton.cdiv(Q, BLOCK_Q), heads, B](
                value.contiguous(), locations.contiguous(), weights.contiguous(), out,
                _numbers(shapes), S, Q, heads, C, L, P, BLOCK_Q, triton.next_power_of_2(C),
            )  # fmt: skip
    return out


def backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value (summed in fp32 or fp64), locations and weights."""
    B, S, heads, C = value.shape
    Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
    grad_value = torch.zeros(value.shape, dtype=locations.dtype, device=value.device)
    grad_locations = locations.new_empty(locations.shape)
    grad_weights = weights.new_empty(weights.shape)
    if grad.numel():
        with torch.cuda.device_of(value):
            _backward[triton.cdiv(Q, BLOCK_Q), heads, B](
                grad.contiguous(), value.contiguous(), locations.contiguous(),
                weights.contiguous(), grad_value, grad_locations, grad_weights, _numbers(shapes),
                S, Q, heads, C, L, P, BLOCK_Q, triton.next_power_of_2(C),
            )  # fmt: skip
    return grad_value.to(value.dtype), grad_locations, grad_weights
