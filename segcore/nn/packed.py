"""Layers for inference on a CPU: weights laid out once as oneDNN wants them, more in one pass.

PyTorch lays out a layer's weights anew at every call, multiplies float32 matrices by another
library, and goes over a map once more for each ReLU and each sum. These layers do not. They hold
the packed weights alone, in float32 or bfloat16, so they can neither be trained nor saved.

Legend of one-letter names: B images, C D channels, S tokens, h w feature cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CACHED_TOKENS = 4096  # so many at a time that a CPU's cache holds their hidden layer
OPERATORS = (
    *("_linear_pointwise", "_reorder_linear_weight"),
    *("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight"),
)
ops: Any = torch.ops.mkldnn
Activation = tuple[str, list[float]]  # oneDNN's name of it, and its numbers
Preparation = Callable[[Any, torch.dtype], nn.Module]  # see segcore.nn.prepared
NOTHING: Activation = ("none", [])
RELU: Activation = ("relu", [])


def missing_operator() -> str:
    """What this PyTorch lacks for packed layers; "" where they run."""
    if not torch.backends.mkldnn.is_available():
        return "oneDNN"
    if not torch.backends.mkldnn.enabled:
        return "oneDNN that is switched on (torch.backends.mkldnn.enabled is False)"
    lacking = [f"torch.ops.mkldnn.{name}" for name in OPERATORS if not hasattr(ops, name)]
    return ", ".join(lacking)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """x (..., C) and weight (D, C), of any strides -> (..., D), by oneDNN; without gradients.

    Args:
        then: "none" or "relu".
    """
    return ops._linear_pointwise(x, weight, dense(bias), then, [], "none")


def dense(bias: Tensor | None) -> Tensor | None:
    """A bias (D,) whose numbers lie side by side: oneDNN does not look at its stride."""
    return None if bias is None else bias.contiguous()


@dataclass(frozen=True)
class Around:
    """In a table of preparations: one that heeds the hooks of what is inside."""

    change: Preparation

    def __call__(self, module: Any, kind: torch.dtype) -> nn.Module:
        return self.change(module, kind)


class PackedLinear(nn.Module):
    """A linear layer, then perhaps ReLU or GELU.

    Args:
        weight: (D, C).
        bias: (D,).
        kind: float32 or bfloat16: in what is multiplied, and the type of the result.
        then: "none", "relu" or "gelu".
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, kind: torch.dtype, then: str = "none"
    ) -> None:
        super().__init__()
        self.kind, self.then = kind, then
        # the layout is the same for all numbers of rows but the smallest, and right for any
        self.weight = ops._reorder_linear_weight(weight.detach().to(kind), CACHED_TOKENS)
        self.bias = dense(None if bias is None else bias.detach().to(kind))

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(..., C) -> (..., D).

        Args:
            added: (..., D) added to the result.
        """
        x = x.to(self.kind)
        if added is None:
            return ops._linear_pointwise(x, self.weight, self.bias, self.then, [], "none")
        if added.dtype != self.kind:  # a sum in float32 stays one
            return added + self(x)
        return ops._linear_pointwise.binary(x, added, self.weight, self.bias, "add")


class PackedConv(nn.Module):
    """A convolution with a norm folded into it, then perhaps a sum and ReLU.

    Args:
        conv: its weight and bias are not looked at.
        weight: (D, C/groups, k, k).
        bias: (D,).
        kind: float32 or bfloat16: in what is multiplied, and the type of the result. The bias
            stays float32, for a norm inside makes it large.
        then: an activation at the end of every call that asks for no other.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        weight: Tensor,
        bias: Tensor | None,
        kind: torch.dtype,
        then: Activation = NOTHING,
    ) -> None:
        super().__init__()
        self.kind, self.then = kind, then
        steps: tuple[Any, ...] = (conv.padding, conv.stride, conv.dilation)
        self.shape = (*(list(step) for step in steps), conv.groups)
        self.weight = weight.detach().to(kind, memory_format=torch.channels_last)
        if conv.kernel_size != (1, 1):  # whose best layout depends on the image's size
            self.weight = ops._reorder_convolution_weight(self.weight, *self.shape)
        self.bias = dense(None if bias is None else bias.detach().float())

    def forward(self, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
        """(B, C, h, w) -> (B, D, h', w').

        Args:
            added: (B, D, h', w') added to the result, before ReLU; overwritten by the result,
                which saves fetching memory for another map.
        """
        x, bias = x.to(self.kind), self.bias
        if added is None:
            layer = (x, self.weight, bias, *self.shape)
            return ops._convolution_pointwise(*layer, *(RELU if relu else self.then), "")
        bias = None if bias is None else bias.to(self.kind)  # this operator wants one type
        layer = (x, self.weight, bias, *self.shape)
        then = ("add", 1.0, "relu" if relu else None, [], None)
        return ops._convolution_pointwise_.binary(added.to(self.kind), *layer, *then)


class FeedForward(nn.Module):
    """Two linear layers with ReLU or GELU between them, perhaps behind a norm and with a sum.

    Args:
        norm: of the tokens, before the first layer.
        first, second: of the plain network.
        between: "relu" or "gelu".
        scale: (C,) factor of the second layer's channels.
    """

    def __init__(
        self,
        norm: nn.Module,
        first: nn.Linear,
        second: nn.Linear,
        kind: torch.dtype,
        *,
        between: str,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        weight, bias = second.weight, second.bias
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        self.norm = norm
        self.first = PackedLinear(first.weight, first.bias, kind, between)
        self.second = PackedLinear(weight, bias, kind)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C): x and what the layers make of it."""
        tokens = x.flatten(0, -2)  # (S, C)
        parts = [
            self.second(self.first(self.norm(part)), part) for part in tokens.split(CACHED_TOKENS)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(x.shape)
