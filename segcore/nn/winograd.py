"""3x3 convolutions in float32 by Winograd's F(4x4, 3x3), on a CPU.

After "Fast Algorithms for Convolutional Neural Networks" (Lavin and Gray, section 4.3): a quarter
of the products, and several times the rounding error. The kernels are in `ops/`.

Legend of one-letter names: B images, C D channels, h w feature cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segcore.nn import ms_deform_attn  # its compiled kernels come with this one
from segcore.nn.packed import NOTHING, RELU, PackedConv, dense

VECTOR = 16  # channels come in multiples of it
PACKED = 64  # outputs at a time, so that no second copy in float64 is held
WEIGHTS = (  # G of the paper
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def has_winograd() -> bool:
    """Whether the compiled kernels are there: an older build of them has no such."""
    return bool(ms_deform_attn.compiled) and hasattr(torch.ops.msda, "winograd_conv")


def pack_winograd(weight: Tensor) -> Tensor:
    """(D, C, 3, 3) -> (36, C, D), as `winograd_conv` wants it."""
    sides = torch.tensor(WEIGHTS, dtype=torch.float64)
    packed = torch.empty(36, weight.shape[1], weight.shape[0])
    for part, to in zip(weight.detach().split(PACKED), packed.split(PACKED, dim=2), strict=True):
        both = sides @ part.double() @ sides.T  # (PACKED, C, 6, 6)
        to.copy_(both.flatten(2).permute(2, 1, 0))
    return packed


def winograd_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, added: Tensor | None = None
) -> Tensor:
    """A 3x3 convolution with stride 1 and a border of zeros.

    Args:
        x: (B, C, h, w) float32, best channels-last.
        weight: what `pack_winograd` made.
        bias: (D,).
        relu: at the end.
        added: (B, D, h, w) added to the result, before ReLU.

    Returns: (B, D, h, w), channels-last.
    """
    last = (0, 2, 3, 1)
    if added is not None:
        added = added.float().permute(last).contiguous()
    x = x.float().permute(last).contiguous()
    return torch.ops.msda.winograd_conv(x, weight, dense(bias), added, relu).permute(0, 3, 1, 2)


def learns_winograd() -> bool:
    """Whether the compiled kernels have the gradients, too."""
    return bool(ms_deform_attn.compiled) and hasattr(torch.ops.msda, "winograd_weight_gradient")


class _TrainedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = winograd_conv(x, _pack_anew(weight), bias, False)
        return y.data  # not a view of the kernel's result, so that a ReLU in place may follow

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_input, learns, shifts = ctx.needs_input_grad
        turned = weight.flip(2, 3).transpose(0, 1)
        return (
            winograd_conv(grad, _pack_anew(turned), None, False) if to_input else None,
            _weight_gradient(x, grad) if learns else None,
            grad.sum((0, 2, 3)) if shifts else None,
        )


def _both_sides() -> Tensor:
    """(36, 9): from a window of weights to its products', rows and columns in one."""
    sides = torch.tensor(WEIGHTS)
    return torch.kron(sides, sides)


def _pack_anew(weight: Tensor) -> Tensor:
    """As `pack_winograd`, quicker and in float32: for weights that change at every step."""
    windows = weight.permute(2, 3, 1, 0).flatten(0, 1)  # (9, C, D)
    return (_both_sides() @ windows.flatten(1)).unflatten(1, windows.shape[1:])


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """(B, C, h, w), (B, D, h, w) -> (D, C, 3, 3)."""
    last = (0, 2, 3, 1)
    x, grad = x.permute(last).contiguous(), grad.permute(last).contiguous()
    packed = torch.ops.msda.winograd_weight_gradient(x, grad)  # (36, C, D)
    windows = (_both_sides().T @ packed.flatten(1)).view(3, 3, *packed.shape[1:])
    return windows.permute(3, 2, 0, 1)


def trained_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`winograd_conv` with gradients: (B, C, h, w), (D, C, 3, 3), (D,) -> (B, D, h, w)."""
    return _TrainedConv.apply(x, weight, bias)


class WinogradConv(nn.Module):
    """In the place of a `PackedConv`.

    Args:
        weight: (D, C, 3, 3).
        bias: (D,).
        relu: at the end of every call.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool = False) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = pack_winograd(weight), bias, relu

    def forward(self, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w).

        Args:
            added: (B, D, h, w) added to the result, before ReLU.
        """
        return winograd_conv(x, self.weight, self.bias, relu or self.relu, added)


def use_winograd(model: nn.Module) -> int:
    """Replaces a prepared model's 3x3 convolutions in float32 that have a stride of 1.

    Returns: how many; 0 without the compiled kernels.
    """
    count = 0
    for parent in list(model.modules()) if has_winograd() else ():
        for name, conv in parent.named_children():
            if isinstance(conv, PackedConv) and _fits(conv):
                relu = conv.then == RELU
                setattr(parent, name, WinogradConv(conv.weight.to_dense(), conv.bias, relu))
                count += 1
    return count


def _fits(conv: PackedConv) -> bool:
    D, C, *kernel = conv.weight.shape
    plain = conv.shape == ([1, 1], [1, 1], [1, 1], 1) and kernel == [3, 3]
    plain = plain and conv.then in (NOTHING, RELU)
    return plain and conv.kind == torch.float32 and C % VECTOR == 0 and D % VECTOR == 0
