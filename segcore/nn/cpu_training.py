"""A model's layers trained on a CPU: classes that compute the same by faster routes.

A module only changes its class; parameters, their names and the results stay. PyTorch multiplies
float32 matrices by another library than oneDNN, which is faster for these shapes, and takes
gradients of all rows where few are not zero.

Legend of one-letter names: N images, Q queries, C D channels, S tokens or cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from segcore.nn.layers import Attention, ConvNorm, stack_or_view, watched
from segcore.nn.packed import product
from segcore.nn.winograd import VECTOR, learns_winograd, trained_conv

KINDS = (torch.float32, torch.bfloat16)  # that oneDNN multiplies everywhere
Trained = type[nn.Module] | Callable[[Any], None]  # a module's class, or what changes its classes


def train_on_cpu(
    model: nn.Module, own: Mapping[type[nn.Module], Trained], *, winograd: bool = True
) -> None:
    """Give a model's modules their classes for training on a CPU, in place.

    Args:
        own: by its plain class, an architecture's own ones, besides those that models share; or a
            function that changes the classes of several modules which work together.
        winograd: 3x3 convolutions of large maps in float32 by Winograd's algorithm, where the
            compiled kernels are.
    """
    classes = SHARED | (BY_TILES if winograd else {}) | dict(own)
    for module in model.modules():  # a parent before its children
        change = classes.get(type(module), type(module))
        if isinstance(change, type):
            module.__class__ = change
        else:
            change(module)


class _LinearProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, kind: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x.to(kind), weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_input, learns, shifts, _ = ctx.needs_input_grad
        rows = grad.flatten(0, -2)  # (S, D)
        sums, rows = rows.sum(0) if shifts else None, rows.to(x.dtype)
        return (
            product(grad.to(x.dtype), weight.to(x.dtype).mT).float() if to_input else None,
            (rows.mT @ x.flatten(0, -2)).float() if learns else None,
            sums,
            None,
        )


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, backward: torch.dtype = torch.float32
) -> Tensor:
    """torch's `linear`, in float32 through oneDNN; mixed precision goes there by itself.

    Args:
        backward: in what float32's gradients are multiplied, if it is one of `KINDS`.
    """
    exact = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if exact and _multiplies(x, weight):
        kind = backward if backward in KINDS else torch.float32
        return _LinearProduct.apply(x, weight, bias, kind)
    return F.linear(x, weight, bias)


def _multiplies(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes these sizes; of others PyTorch makes a result, or says what is wrong."""
    return x.is_cpu and x.dim() > 1 and 0 < x.shape[-1] == weight.shape[1]


class Linear(nn.Linear):
    """By `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., C) -> (..., D)."""
        return linear(input, self.weight, self.bias)


class _Attention(Attention):
    """Its projections by `linear`."""

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        return [linear(*x) for x in zip(inputs, weights, biases, strict=True)]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if q.dtype != torch.bfloat16:
            return super()._attend(q, k, v, mask)
        with torch.autocast("cpu", enabled=False):
            return _Attend.apply(q.contiguous(), k.contiguous(), v.contiguous(), mask)


class _Attend(torch.autograd.Function):
    """Attention by whole matrices: in bfloat16 PyTorch's own takes twice as long backwards."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q = q * q.shape[-1] ** -0.5
        logits = q @ k.mT  # (B, heads, Q, S)
        if mask is not None:
            logits += logits.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))
        weights = logits.softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        slopes = torch.ops.aten._softmax_backward_data(grad @ v.mT, weights, -1, weights.dtype)
        return slopes @ k * q.shape[-1] ** -0.5, slopes.mT @ q, weights.mT @ grad, None


class Conv(nn.Conv2d):
    """Of 3x3, a large map's by Winograd's algorithm."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._gains(input):
            return trained_conv(input, weight, bias)
        return super()._conv_forward(input, weight, bias)

    def _gains(self, x: Tensor) -> bool:
        """In float32, where the maps have more tiles than the weights, which change, channels."""
        if x.dim() < 4 or not x.is_cpu:  # a single image without its axis
            return False
        exact = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        channels = self.in_channels, self.out_channels
        steps = self.kernel_size, self.padding, self.stride, self.dilation, self.groups
        plain = steps == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and self.padding_mode == "zeros"
        fits = plain and not any(c % VECTOR for c in channels)
        tiles = len(x) * -(-x.shape[2] // 4) * -(-x.shape[3] // 4)
        return exact and fits and tiles > max(channels) and learns_winograd()


class _ConvNorm(Conv, ConvNorm):
    """With such a convolution."""


def _weight_gradients(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of a linear layer's weight and bias: grad (..., D), x (..., C) -> (D, C), (D,)."""
    rows, inputs = grad.flatten(0, -2), x.flatten(0, -2)  # (S, D), (S, C)
    if grad.shape[-1] < x.shape[-1]:  # the long side first is an eighth faster
        return (inputs.mT @ rows).mT, rows.sum(0)
    return rows.mT @ inputs, rows.sum(0)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *layers: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = layers
        hidden = product(x, weight1, bias1, "relu")
        ctx.save_for_backward(x, weight1, hidden, weight2)
        return product(hidden, weight2, bias2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight1, hidden, weight2 = ctx.saved_tensors
        second = _weight_gradients(grad, hidden)
        inner = product(grad, weight2.mT)
        torch.ops.aten.threshold_backward.grad_input(inner, hidden, 0, grad_input=inner)
        return product(inner, weight1.mT), *_weight_gradients(inner, x), *second


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """Two linear layers with ReLU between them: (..., C) -> (..., C)."""
    mixed = torch.is_autocast_enabled("cpu")
    kind = torch.get_autocast_dtype("cpu") if mixed else x.dtype
    plain = all(is_plain(layer, nn.Linear, Linear) for layer in (first, second))
    if not plain or kind not in KINDS or not _multiplies(x, first.weight):
        return second(F.relu(first(x)))
    parts = (x, first.weight, first.bias, second.weight, second.bias)
    return _FeedForward.apply(*(part.to(kind) for part in parts))


def is_plain(layer: nn.Module, *classes: type[nn.Module]) -> bool:
    """Whether a layer is its weight and bias and nothing else, so that others may use these."""
    return type(layer) in classes and layer.bias is not None and not watched(layer)


class _MaskProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        embeddings, offsets = given[::2], given[1::2]
        ctx.save_for_backward(features, *embeddings)
        return tuple(
            stack_or_view([product(*pair) for pair in zip(each, features.mT, strict=True)]).add_(
                offset[..., None]
            )
            for each, offset in zip(embeddings, offsets, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        features, *embeddings = ctx.saved_tensors
        to_embeddings = [torch.zeros_like(each) for each in embeddings]
        to_offsets = [each.new_zeros(each.shape[:2]) for each in embeddings]  # (N, Q)
        to_features = []  # (S, D) an image
        for n, cells in enumerate(features):
            rows = [grad[n].any(1).nonzero()[:, 0] for grad in grads]
            grad = torch.cat([grad[n, row] for grad, row in zip(grads, rows, strict=True)])
            mine = torch.cat([e[n, row] for e, row in zip(embeddings, rows, strict=True)])
            to_features.append(grad.mT @ mine)
            parts = product(grad, cells), grad.sum(1)
            for targets, part in zip((to_embeddings, to_offsets), parts, strict=True):
                each = zip(targets, rows, part.split([len(row) for row in rows]), strict=True)
                for to, row, values in each:
                    to[n, row] = values
        each = (x for pair in zip(to_embeddings, to_offsets, strict=True) for x in pair)
        return stack_or_view(to_features).mT, *each


def mask_products(
    features: Tensor, embeddings: Sequence[Tensor], offsets: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Products of every layer's queries with the cells, for losses that look at a few queries.

    Args:
        features: (N, D, S), best with a cell's channels side by side.
        embeddings: of each layer (N, Q, D).
        offsets: of each layer (N, Q), added to all cells.

    Returns: of each layer (N, Q, S). Backward looks for the queries with gradients.
    """
    each = (x for pair in zip(embeddings, offsets, strict=True) for x in pair)
    return _MaskProducts.apply(features, *each)


SHARED: dict[type[nn.Module], Trained] = {
    nn.Linear: Linear,
    Attention: _Attention,
}
BY_TILES: dict[type[nn.Module], Trained] = {nn.Conv2d: Conv, ConvNorm: _ConvNorm}
