"""Small layers that several models share.

Legend of one-letter names: B samples, T views, Q queries, C channels, h w feature cells, S tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def sine_code(length: int, dim: int, device: torch.device) -> Tensor:
    """Interleaved sine/cosine code of positions 1..length, scaled to one turn: (length, dim)."""
    position = torch.arange(1, length + 1, device=device) / (length + 1e-6) * 2 * math.pi
    period = 10_000 ** (2 * (torch.arange(dim, device=device) // 2) / dim)
    angle = position[:, None] / period
    return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)


def position_code(views: int | None, h: int, w: int, dim: int, device: torch.device) -> Tensor:
    """(T*h*w, dim). Row and column code side by side; with `views`, the view's code is added."""
    y = sine_code(h, dim // 2, device)[:, None].expand(h, w, -1)
    x = sine_code(w, dim // 2, device)[None].expand(h, w, -1)
    code = torch.cat((y, x), dim=2)
    if views is not None:
        code = code + sine_code(views, dim, device)[:, None, None]
    return code.reshape(-1, dim)


class ConvNorm(nn.Conv2d):
    """A convolution with GroupNorm (32 groups) and perhaps a ReLU, named as detectron2 does."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, relu: bool = False
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.GroupNorm(math.gcd(32, out_channels), out_channels)
        self.relu = relu
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, input: Tensor) -> Tensor:
        x = self.norm(super().forward(input))
        return x.relu_() if self.relu else x


class Attention(nn.Module):
    """nn.MultiheadAttention's parameters and first values; the mask is shared by all heads."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """(B, Q, C), (B, S, C), (B, S, C), `allowed` (B, Q, S) bool -> (B, Q, C)."""
        q, k, v = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x in self._project(query, key, value)
        )  # (B, heads, Q or S, C/heads)
        mask = None if allowed is None else allowed[:, None]
        out = self._attend(q, k, v, mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B, heads, Q or S, C/heads), mask (B, 1, Q, S) bool -> (B, heads, Q, C/heads)."""
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        """Query, key and value, each by its third of the weights."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        return [F.linear(*x) for x in zip(inputs, weights, biases, strict=True)]


def run_blocks(blocks: Iterable[Callable[[Tensor], Tensor]], x: Tensor, recompute: bool) -> Tensor:
    """One block after the other.

    Args:
        recompute: keep the blocks' inputs alone, and compute what is inside again in backward.
    """
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
    return x


def stack_or_view(parts: Sequence[Tensor]) -> Tensor:
    """torch.stack; of a single one a view instead of a copy."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def watched(module: nn.Module) -> bool:
    """Whether somebody looks by a hook at what goes through it."""
    before, after = module._forward_pre_hooks, module._forward_hooks
    return bool(before or after or module._backward_pre_hooks or module._backward_hooks)


def zero_bias(conv: nn.Conv2d) -> None:
    """Start from a bias of zero, where there is one."""
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them: Perceptron(in, hidden, ..., out)."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Normalise(nn.Module):
    """Pixels as a backbone wants them; padding is zero after normalisation.

    Args:
        mean, std: of each channel, on the scale 0..255. Not part of checkpoints.
    """

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 -> (B*T, 3, H, W) float.

        Args:
            sizes: (B, T, 2), on any device: the host does not read them.
        """
        pixels = images.flatten(0, 1).to(self.mean.dtype).sub_(self.mean).div_(self.std)
        limits = sizes.flatten(0, 1).to(pixels.device, non_blocking=True)[..., None, None, None]
        for axis, length in enumerate(pixels.shape[2:]):
            places = torch.arange(length, device=pixels.device)
            inside = places < limits[:, axis]  # (B*T, 1, 1, H or W)
            pixels.mul_(inside if axis else inside.transpose(2, 3))
        return pixels
