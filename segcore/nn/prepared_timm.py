"""timm's blocks prepared for inference on a CPU; see segcore.nn.prepared.

Which convolution a norm stands behind is known of the classes in a table; in other blocks norms
stay, and their convolutions are packed alone.

Legend of one-letter names: B images, C D channels, h w feature cells.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from timm.models import _efficientnet_blocks as blocks
from timm.models import hgnet, resnet
from timm.models._features import FeatureListNet
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from segcore.nn.backbones import FrozenBatchNorm2d, SyncBatchNorm2d, folded
from segcore.nn.layers import watched
from segcore.nn.packed import NOTHING, Activation, Around, PackedConv

NORMS = (BatchNormAct2d, nn.BatchNorm2d, SyncBatchNorm2d, FrozenBatchNorm2d)
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: NOTHING,
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}
RESNET = (("conv1", "bn1", "act1"), ("conv2", "bn2", "act2"), ("conv3", "bn3", ""))
STEM = (("conv_stem", "bn1", ""),)
FOLLOWING = {  # names of a convolution, its norm, and an activation, where it is not in the norm
    ConvNormAct: (("conv", "bn", ""),),
    EfficientNetFeatures: STEM,
    MobileNetV3Features: STEM,
    blocks.ConvBnAct: (("conv", "bn1", ""),),
    blocks.DepthwiseSeparableConv: (("conv_dw", "bn1", ""), ("conv_pw", "bn2", "")),
    blocks.EdgeResidual: (("conv_exp", "bn1", ""), ("conv_pwl", "bn2", "")),
    blocks.InvertedResidual: (
        *(("conv_pw", "bn1", ""), ("conv_dw", "bn2", "")),
        ("conv_pwl", "bn3", ""),
    ),
    hgnet.ConvBNAct: (("conv", "bn", "act"),),
    resnet.BasicBlock: (RESNET[0], ("conv2", "bn2", "")),
    resnet.Bottleneck: RESNET,
}


class _SameConv(PackedConv):
    """Padded as TensorFlow does, so much that a stride of 2 halves the size."""

    def __init__(self, conv: nn.Conv2d, *packed: Any) -> None:
        super().__init__(conv, *packed)
        self.kernel: Any = conv.kernel_size

    def forward(self, x: Tensor, added: Tensor | None = None, relu: bool = False) -> Tensor:
        _, stride, dilation, _ = self.shape
        return super().forward(pad_same(x, self.kernel, stride, dilation), added, relu)


PACKED: dict[type[nn.Module], type[PackedConv]] = {nn.Conv2d: PackedConv, Conv2dSame: _SameConv}


def _fold(module: nn.Module, names: tuple[str, str, str], kind: torch.dtype) -> None:
    """Replace a convolution by one with its norm and, where oneDNN can, its activation inside."""
    conv, norm, act = (_child(module, name) for name in names)
    if not _foldable(conv, norm):
        return
    inside = hasattr(norm, "act")
    act = norm.act if inside else act
    then = None if act is None or watched(act) else ACTIVATIONS.get(type(act))
    packed = PACKED[type(conv)](conv, *folded(conv, norm), kind, then or NOTHING)
    setattr(module, names[0], packed)
    left = act if inside and then is None else nn.Identity()  # dropping is for training
    setattr(module, names[1], left)
    if then is not None and not inside:
        setattr(module, names[2], nn.Identity())


def _child(module: nn.Module, name: str) -> Any:
    return getattr(module, name, None)


def _foldable(conv: Any, norm: Any) -> bool:
    if type(conv) not in PACKED or type(norm) not in NORMS:
        return False
    plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    asked = watched(conv) or any(watched(part) for part in norm.modules())
    return plain and norm.running_mean is not None and not asked


def _in_turn(module: nn.Module) -> list[tuple[str, str, str]]:
    """Of one that runs its children in turn; those whose result somebody asks for stay whole."""
    asked = getattr(module, "return_layers", {})
    names = [name for name, _ in module.named_children()] + [""]
    found = zip(names, names[1:], names[2:], strict=False)
    return [
        (conv, norm, "" if norm in asked else act) for conv, norm, act in found if conv not in asked
    ]


def prepare_block(module: nn.Module, kind: torch.dtype) -> nn.Module:
    """Any module of a class in `TIMM`; what it holds besides is not looked at."""
    for names in FOLLOWING.get(type(module)) or _in_turn(module):
        _fold(module, names, kind)
    return module


TIMM = dict.fromkeys((*FOLLOWING, nn.Sequential, FeatureListNet), Around(prepare_block))
