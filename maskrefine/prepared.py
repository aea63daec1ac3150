"""What takes the place of detectors' modules for inference on a CPU; see segcore.nn.prepared."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from maskrefine.resnet import Bottleneck, ResNet
from maskrefine.token_encoder import TokenEncoder
from segcore.nn.prepared import BOTTLENECK, Preparation, as_class, pack_pairs, stays


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


PREPARED: dict[type[nn.Module], Preparation] = {
    ResNet: _resnet,
    Bottleneck: _bottleneck,
    TokenEncoder: stays,  # reads its convolutions' weights as those of linear layers
}
