"""Swin Transformer as Mask2Former's checkpoints need it (Liu et al., 2021).

Unlike the classification network: maps are padded to whole windows after the first norm, padded
tokens take part unmasked, windows never shrink, and each stage's output has a norm of its own.

Legend of one-letter names: B images, C channels, h w cells, N windows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn.layers import run_blocks


def shift_mask(h: int, w: int, window: int, shift: int, device: torch.device) -> Tensor:
    """(N, window^2, window^2) float: -100 between tokens that the shift brought together."""
    if torch.compiler.is_exporting():  # its sizes and tensors are no real ones
        return _shift_mask(h, w, window, shift, device)
    return _known_mask(h, w, window, shift, device)


def _shift_mask(h: int, w: int, window: int, shift: int, device: torch.device) -> Tensor:
    rows, columns = (
        (axis >= axis.shape[0] - window).float() + (axis >= axis.shape[0] - shift).float()
        for axis in (torch.arange(h, device=device), torch.arange(w, device=device))
    )  # 0, 1 and 2 along each axis
    region = 3 * rows[:, None] + columns
    ids = windows(region[None, :, :, None], window)[..., 0]  # (N, window^2)
    return torch.where(ids[:, None] == ids[:, :, None], 0.0, -100.0)


_known_mask = lru_cache(maxsize=16)(  # four sizes; one takes 55 MB at 1024 x 1024, window 12
    _shift_mask
)


def windows(x: Tensor, size: int) -> Tensor:
    """(B, h, w, C) -> (B*N, size*size, C)."""
    x = x.unflatten(1, (-1, size)).unflatten(3, (-1, size))  # (B, n, size, m, size, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def unwindows(x: Tensor, size: int, h: int, w: int) -> Tensor:
    """The inverse of `windows`."""
    x = x.unflatten(0, (-1, h // size, w // size)).unflatten(3, (size, size))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def relative_index(window: int) -> Tensor:
    """(window^2, window^2) row of the bias table for each pair of tokens."""
    axis = torch.arange(window)
    y, x = (g.flatten() for g in torch.meshgrid(axis, axis, indexing="ij"))
    rows = y[:, None] - y + window - 1
    return rows * (2 * window - 1) + x[:, None] - x + window - 1


class WindowAttention(nn.Module):
    """Self-attention inside windows with a learned bias for relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        table = torch.zeros((2 * window - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_index(window))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B*N, window^2, C), (N, window^2, window^2) -> (B*N, window^2, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias = self._bias()
        if mask is not None:  # as (B, N*heads, ...), so that all images share one copy of it
            bias = (bias + mask[:, None]).flatten(0, 1)
            q, k, v = (t.unflatten(0, (-1, mask.shape[0])).flatten(1, 2) for t in (q, k, v))
        # four dimensions, contiguous: else a CPU takes each step of attention on its own
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        out = out.reshape(x.shape[0], self.num_heads, *out.shape[2:])
        return self.proj(out.transpose(1, 2).flatten(2))

    def _bias(self) -> Tensor:
        """(heads, window^2, window^2)"""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        return bias.contiguous()


class Mlp(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: drop a branch for whole samples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)


class Block(nn.Module):
    """Window attention and feed-forward, pre-norm; every second block shifts its windows."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int,
        shift: int,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> the same."""
        return self._feed(x + self.drop_path(self._attend(self.norm1(x))))

    def _feed(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        h, w = x.shape[1:3]
        # padded after the norm, so padded tokens are q = k = v = bias; nothing masks them
        x = F.pad(x, (0, 0, 0, -w % self.window, 0, -h % self.window))
        H, W = x.shape[1:3]
        mask = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            mask = shift_mask(H, W, self.window, self.shift, x.device)
        x = unwindows(self.attn(windows(x, self.window), mask), self.window, H, W)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :h, :w]


class PatchMerging(nn.Module):
    """Half the size, twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h/2, w/2, 2C), odd sizes padded."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        phases = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(phases, -1)))


class Stage(nn.Module):
    """Blocks of one resolution, and the way to the next."""

    def __init__(self, blocks: list[Block], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class PatchEmbed(nn.Module):
    """Non-overlapping patches."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, dim, patch, patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h, w, C)."""
        H, W = images.shape[-2:]
        images = F.pad(images, (0, -W % self.patch, 0, -H % self.patch))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """res2..res5 of a Swin Transformer.

    Args:
        drop_path_rate: of the last block; earlier ones have less, in equal steps.
        use_checkpoint: trade time for memory in training.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        num_heads: tuple[int, ...] = (3, 6, 12, 24),
        window_size: int = 7,
        patch_size: int = 4,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.3,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.channels = tuple(embed_dim * 2**i for i in range(len(depths)))
        self.use_checkpoint = use_checkpoint
        self.patch_embed = PatchEmbed(embed_dim, patch_size)
        last = max(1, sum(depths) - 1)
        rates = iter([drop_path_rate * i / last for i in range(sum(depths))])
        self.layers = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(self.channels, depths, strict=True)):
            blocks = [
                Block(
                    dim,
                    num_heads[i],
                    window=window_size,
                    shift=window_size // 2 * (j % 2),
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    drop_path=next(rates),
                )
                for j in range(depth)
            ]
            self.layers.append(Stage(blocks, PatchMerging(dim) if i < len(depths) - 1 else None))
        for i, dim in enumerate(self.channels):
            setattr(self, f"norm{i}", nn.LayerNorm(dim))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> four maps (B, C, h, w)."""
        x, features = self.patch_embed(images), []
        for i, layer in enumerate(self.layers):
            stage = cast(Stage, layer)
            x = run_blocks(stage.blocks, x, self.use_checkpoint and self.training)
            features.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return features
