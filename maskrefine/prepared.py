"""What takes the place of refiners' modules for inference on a CPU; see segcore.nn.prepared.

Legend of one-letter names: B patches, C channels, h w feature cells.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from maskrefine import hrnet
from maskrefine.resnet import Bottleneck, ResNet
from maskrefine.token_encoder import TokenEncoder
from segcore.nn.backbones import folded
from segcore.nn.packed import PackedConv
from segcore.nn.prepared import (
    BOTTLENECK,
    Preparation,
    as_class,
    pack_pairs,
    packed_pair,
    stays,
)


class _ReadConv(nn.Conv2d):
    """One whose weights a function reads: not of the class that is replaced."""


def _resnet(net: ResNet, kind: torch.dtype) -> nn.Module:
    pack_pairs(net, kind, ("conv1", "bn1"))
    return net


def _bottleneck(block: Bottleneck, kind: torch.dtype) -> nn.Module:
    deformable = block.conv2_offset is not None
    if deformable:
        as_class(block.conv2, _ReadConv)
    pack_pairs(block, kind, *(pair for pair in BOTTLENECK if not deformable or "conv2" not in pair))
    shortcut: Any = block.downsample
    if shortcut is not None:
        pack_pairs(shortcut, kind, ("0", "1"))
    return block


class _HRNet(hrnet.HRNet):
    """With its stem's weights put together once."""

    stem: PackedConv

    def _stem(self, x: Tensor) -> Tensor:
        return self.stem(x, relu=True)


def _hrnet(net: hrnet.HRNet, kind: torch.dtype) -> nn.Module:
    stem = copy.copy(net.conv1)
    stem.weight = nn.Parameter(net.stem_weight().detach())
    net.stem = packed_pair(stem, net.bn1, kind)
    del net.conv1, net.conv_mask, net.bn1
    pack_pairs(net, kind, ("conv2", "bn2"))
    return as_class(net, _HRNet)


class _FCNHead(hrnet.FCNHead):
    """With its convolution of each map packed, the norm inside."""

    parts: nn.ModuleList

    def _mixed(self, maps: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.parts, maps, strict=True)]

    def _norm(self, x: Tensor) -> Tensor:
        return x


def _fcn_head(head: hrnet.FCNHead, kind: torch.dtype) -> nn.Module:
    mix: Any = head.convs[0]
    weight, bias = folded(mix.conv, mix.bn)
    parts = weight.split(head.channels, 1)
    biases = [bias, *[None] * (len(parts) - 1)]
    pairs = zip(parts, biases, strict=True)
    head.parts = nn.ModuleList(PackedConv(mix.conv, *pair, kind) for pair in pairs)
    del head.convs
    return as_class(head, _FCNHead)


def _pairs(*pairs: tuple[str, str]) -> Preparation:
    def pack(module: nn.Module, kind: torch.dtype) -> nn.Module:
        pack_pairs(module, kind, *pairs)
        return module

    return pack


PATCHES: dict[type[nn.Module], Preparation] = {
    hrnet.HRNet: _hrnet,
    hrnet.FCNHead: _fcn_head,
    hrnet.ConvNorm: _pairs(("0", "1")),
    hrnet.BasicBlock: _pairs(*BOTTLENECK[:2]),
    hrnet.Bottleneck: _pairs(*BOTTLENECK),
}
PREPARED: dict[type[nn.Module], Preparation] = {
    ResNet: _resnet,
    Bottleneck: _bottleneck,
    TokenEncoder: stays,  # reads its convolutions' weights as those of linear layers
}
