"""HorNet prepared for inference on a CPU; see segcore.nn.prepared.

Maps are channels-last throughout, so that a norm over channels is one over rows.

Legend of one-letter names: B images, C channels, h w cells.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.nn import hornet
from segcore.nn.packed import FeedForward, PackedConv


class _ChannelNorm(hornet.ChannelNorm):
    """By rows, in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        return _rows_normed(x.permute(0, 2, 3, 1), self)


def _rows_normed(rows: Tensor, norm: hornet.ChannelNorm) -> Tensor:
    """(B, h, w, C) -> (B, C, h, w), channels-last."""
    rows = F.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, hornet.EPS)
    return rows.permute(0, 3, 1, 2)


def _channel_norm(norm: hornet.ChannelNorm, kind: torch.dtype) -> nn.Module:
    norm.__class__ = _ChannelNorm
    return norm


class _Filter(hornet.GlobalLocalFilter):
    """Its channels alternate where the norm wants them."""

    def _mixed(self, local: Tensor, wide: Tensor) -> Tensor:
        rows = torch.stack((local.permute(0, 2, 3, 1), wide.permute(0, 2, 3, 1)), 4).flatten(3)
        return _rows_normed(rows, self.post_norm)


def _filter(plain: hornet.GlobalLocalFilter, kind: torch.dtype) -> nn.Module:
    plain.__class__ = _Filter
    return plain


class _GatedConv(hornet.GatedConv):
    """First gate and the rest by convolutions of their own; gates come divided by three."""

    first: PackedConv
    rest: PackedConv

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """(B, C, h, w) -> the same, added to another map of this size."""
        gates = self.dwconv(self.rest(x)).split(self.dims, dim=1)
        x = self.first(x).mul_(gates[0])
        for project, gate in zip(self.pws, gates[1:], strict=True):
            x = project(x).mul_(gate)
        return self.proj_out(x, added)


def _gated_conv(plain: hornet.GatedConv, kind: torch.dtype) -> nn.Module:
    conv: Any = plain.proj_in
    one = plain.dims[0]
    weights, biases = (x.detach().split((one, len(x) - one)) for x in (conv.weight, conv.bias))
    plain.first, plain.rest = (
        PackedConv(conv, weight, bias, kind) for weight, bias in zip(weights, biases, strict=True)
    )
    last: Any = plain.dwconv
    last = last.post_norm if isinstance(last, hornet.GlobalLocalFilter) else last
    for values in (last.weight, last.bias):
        values.data /= 3
    del plain.proj_in
    plain.__class__ = _GatedConv
    return plain


class _Block(hornet.Block):
    """Gammas inside the products before them, its feed-forward a few tokens at a time."""

    feed: FeedForward
    gnconv: _GatedConv

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same, in the memory of x where it has the products' type."""
        mixed = self.norm1(x)
        if x.dtype == self.gnconv.proj_out.kind:
            x = self.gnconv(mixed, x)
        else:  # a sum in float32 stays one
            x = x + self.gnconv(mixed)
        return self.feed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _block(block: hornet.Block, kind: torch.dtype) -> nn.Module:
    inner: Any = block.gnconv
    conv, gamma = inner.proj_out, block.gamma1.detach()
    weight = conv.weight * gamma[:, None, None, None]
    inner.proj_out = PackedConv(conv, weight, conv.bias * gamma, kind)
    layers = (block.norm2, block.pwconv1, block.pwconv2)
    block.feed = FeedForward(*layers, kind, between="gelu", scale=block.gamma2)
    del block.norm2, block.pwconv1, block.pwconv2, block.gamma1, block.gamma2
    block.__class__ = _Block
    return block


HORNET = {
    hornet.Block: _block,
    hornet.ChannelNorm: _channel_norm,
    hornet.GatedConv: _gated_conv,
    hornet.GlobalLocalFilter: _filter,
}
