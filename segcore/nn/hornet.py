"""HorNet with global filters (Rao et al., 2022), as CropFormer's checkpoints need it.

Legend of one-letter names: B images, C channels, h w cells.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn.layers import run_blocks
from segcore.nn.swin import DropPath

EPS = 1e-6


class ChannelNorm(nn.Module):
    """Layer normalisation over dimension 1. Not an nn.LayerNorm: upstream decays its weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).square().mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + EPS)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class LastNorm(nn.Module):
    """Layer normalisation over the last dimension; see ChannelNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> the same."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, EPS)


class GlobalLocalFilter(nn.Module):
    """Half of the channels through a 3x3 convolution, half through a filter in Fourier space."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        half = channels // 2
        self.dw = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.complex_weight = nn.Parameter(torch.randn(half, height, width, 2) * 0.02)
        self.pre_norm = ChannelNorm(channels)
        self.post_norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same; the Fourier part in fp32 at least."""
        local, wide = self.pre_norm(x).chunk(2, dim=1)
        local = self.dw(local)
        h, w = wide.shape[-2:]
        with torch.autocast(x.device.type, enabled=False):
            kind = torch.promote_types(wide.dtype, torch.float32)
            spectrum = torch.fft.rfft2(wide.to(kind), norm="ortho")
            spectrum = spectrum * self._filter(h, w // 2 + 1, kind)
            wide = torch.fft.irfft2(spectrum, s=(h, w), norm="ortho").to(local.dtype)
        return self._mixed(local, wide)

    def _mixed(self, local: Tensor, wide: Tensor) -> Tensor:
        return self.post_norm(torch.stack((local, wide), dim=2).flatten(1, 2))  # they alternate

    def _filter(self, h: int, w: int, kind: torch.dtype) -> Tensor:
        weight = self.complex_weight.to(kind)  # (C/2, h0, w0, 2)
        if weight.shape[1:3] != (h, w):
            parts = weight.permute(3, 0, 1, 2)
            parts = F.interpolate(parts, (h, w), mode="bilinear", align_corners=True)
            weight = parts.permute(1, 2, 3, 0)
        return torch.view_as_complex(weight.contiguous())


class GatedConv(nn.Module):
    """Recursive gated convolution of a given order (gnConv)."""

    def __init__(self, dim: int, order: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.dims = [dim // 2 ** (order - 1 - k) for k in range(order)]
        total = sum(self.dims)
        self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
        self.dwconv = (
            GlobalLocalFilter(total, *size)
            if size
            else nn.Conv2d(total, total, 7, padding=3, groups=total)
        )
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.pws = nn.ModuleList(
            nn.Conv2d(self.dims[k], self.dims[k + 1], 1) for k in range(order - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        first, rest = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        gates = (self.dwconv(rest) / 3).split(self.dims, dim=1)
        x = first * gates[0]
        for project, gate in zip(self.pws, gates[1:], strict=True):
            x = project(x) * gate
        return self.proj_out(x)


class Block(nn.Module):
    """Gated convolution and feed-forward, pre-norm, scaled by learned gammas."""

    def __init__(
        self, dim: int, order: int, size: tuple[int, int] | None, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.gnconv = GatedConv(dim, order, size)
        self.norm2 = LastNorm(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma1 = nn.Parameter(torch.full((dim,), 1e-6))
        self.gamma2 = nn.Parameter(torch.full((dim,), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return self._feed(x + self.drop_path(self._mix(x)))

    def _mix(self, x: Tensor) -> Tensor:
        return self.gamma1[:, None, None] * self.gnconv(self.norm1(x))

    def _feed(self, x: Tensor) -> Tensor:
        hidden = self.norm2(x.permute(0, 2, 3, 1))
        hidden = self.gamma2 * self.pwconv2(F.gelu(self.pwconv1(hidden)))
        return x + self.drop_path(hidden.permute(0, 3, 1, 2))


class HorNet(nn.Module):
    """res2..res5 of HorNet-GF.

    Args:
        orders: of the gated convolutions, by stage.
        sizes: of the stored spectra, by stage; None: a 7x7 convolution instead.
        use_checkpoint: trade time for memory in training.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self,
        *,
        dim: int = 192,
        depths: tuple[int, ...] = (2, 3, 18, 2),
        orders: tuple[int, ...] = (2, 3, 4, 5),
        sizes: tuple[tuple[int, int] | None, ...] = (None, None, (24, 13), (12, 7)),
        drop_path_rate: float = 0.6,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.channels = tuple(dim * 2**i for i in range(len(depths)))
        self.downsample_layers = nn.ModuleList([
            nn.Sequential(nn.Conv2d(3, dim, 4, 4), ChannelNorm(dim)),
            *(
                nn.Sequential(ChannelNorm(c), nn.Conv2d(c, 2 * c, 2, 2))
                for c in self.channels[:-1]
            ),
        ])  # fmt: skip
        last = max(1, sum(depths) - 1)
        rates = iter([drop_path_rate * i / last for i in range(sum(depths))])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(c, order, size, next(rates)) for _ in range(depth)))
            for c, order, size, depth in zip(self.channels, orders, sizes, depths, strict=True)
        )
        for i, c in enumerate(self.channels):
            setattr(self, f"norm{i}", ChannelNorm(c))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> four maps (B, C, h, w)."""
        x, features = images, []
        for i, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            blocks = cast(nn.Sequential, stage)
            x = run_blocks(blocks, down(x), self.use_checkpoint and self.training)
            features.append(getattr(self, f"norm{i}")(x))
        return features
