"""A model's layers replaced by packed ones, once its weights are loaded, to look at images.

Which class of modules is replaced by what stands in tables: here of the layers that all models
share, beside each architecture of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from segcore.nn import swin
from segcore.nn.backbones import ResNet, folded
from segcore.nn.group_norm import group_norm_
from segcore.nn.layers import Attention, ConvNorm, Perceptron, watched
from segcore.nn.packed import (
    Around,
    FeedForward,
    PackedConv,
    PackedLinear,
    Preparation,
    missing_operator,
)
from segcore.nn.prepared_hornet import HORNET
from segcore.nn.prepared_timm import TIMM
from segcore.nn.winograd import has_winograd, use_winograd

logger = logging.getLogger(__name__)

Plain = TypeVar("Plain", bound=nn.Module)


def prepare(
    model: nn.Module, kind: torch.dtype, own: Mapping[type[nn.Module], Preparation]
) -> nn.Module:
    """The model for inference on a CPU, changed in place; its state dict is no longer of use.

    Args:
        model: in eval mode, on the CPU, with its weights.
        kind: float32 or bfloat16; the latter's model runs under autocast.
        own: what takes the place of a class of modules, besides the layers that models share.
            What it returns is searched for further ones. Where somebody's hook stands on a module
            or inside, it stays as it is.
    """
    return _prepared(model, kind, SHARED | dict(own), {})


def prepared_or_plain(
    model: nn.Module,
    kind: torch.dtype,
    own: Mapping[type[nn.Module], Preparation],
    *,
    lacking: str | None = None,
    winograd: bool = True,
) -> nn.Module:
    """`prepare`, or where PyTorch cannot do that the plain model, with a warning.

    Args:
        lacking: what PyTorch lacks for it, "" nothing; None: looked up.
        winograd: in float32, 3x3 convolutions by Winograd's algorithm.
    """
    if lacking := missing_operator() if lacking is None else lacking:
        logger.warning("inference with plain layers, slower: this PyTorch has no %s", lacking)
        return model
    model = prepare(model, kind, own)
    if winograd and kind == torch.float32:
        if not has_winograd():
            logger.warning("3x3 convolutions are direct ones, slower: pip install ./ops")
        use_winograd(model)
    return model


def _prepared(
    module: nn.Module,
    kind: torch.dtype,
    table: Mapping[type[nn.Module], Preparation],
    done: dict[nn.Module, nn.Module],
) -> nn.Module:
    if module in done:  # one that stands in two places
        return done[module]
    change = table.get(type(module))
    if change and not isinstance(change, Around) and any(map(watched, module.modules())):
        return module  # what takes its place may pass by a layer whose hooks somebody waits for
    if change is stays:
        return module
    new = done[module] = change(module, kind) if change else module
    for name, child in new.named_children():
        setattr(new, name, _prepared(child, kind, table, done))
    return new


def stays(module: nn.Module, kind: torch.dtype) -> nn.Module:
    """In a table: of modules that keep all their layers."""
    return module


def as_class(module: nn.Module, prepared: type[Plain]) -> Plain:
    """The same module, with the methods of a class that is derived from its own."""
    module.__class__ = prepared
    assert isinstance(module, prepared)
    return module


def packed_linear(layer: nn.Linear, kind: torch.dtype) -> PackedLinear:
    """Any linear layer."""
    return PackedLinear(layer.weight, layer.bias, kind)


def packed_conv(conv: nn.Conv2d, kind: torch.dtype) -> nn.Module:
    """Any convolution that pads with zeros; others stay."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return conv
    return PackedConv(conv, conv.weight, conv.bias, kind)


def packed_pair(conv: nn.Conv2d, norm: nn.Module, kind: torch.dtype) -> PackedConv:
    """A convolution and the norm behind it, as `conv_norm` takes it."""
    weight, bias = folded(conv, norm)
    return PackedConv(conv, weight, bias, kind)


def pack_pairs(module: nn.Module, kind: torch.dtype, *pairs: tuple[str, str]) -> None:
    """Replace convolutions by packed ones with their norms inside.

    Args:
        pairs: names of a convolution and its norm, children of the module.
    """
    for conv, norm in pairs:
        plain: Any = module.get_submodule(conv)
        setattr(module, conv, packed_pair(plain, module.get_submodule(norm), kind))
        setattr(module, norm, nn.Identity())


BOTTLENECK = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))


def _resnet(net: ResNet, kind: torch.dtype) -> nn.Module:
    pack_pairs(net, kind, ("conv1", "bn1"))
    for block in (block for layer in net.layers for block in layer.children()):
        pack_pairs(block, kind, *BOTTLENECK)
        if isinstance(block.downsample, nn.Sequential):
            pack_pairs(block.downsample, kind, ("0", "1"))
    return net


class PackedConvNorm(nn.Module):
    """GroupNorm and ReLU behind a packed convolution."""

    def __init__(self, plain: ConvNorm, kind: torch.dtype) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = packed_conv(plain, kind), plain.norm, plain.relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, D, h, w)."""
        return group_norm_(self.conv(x), self.norm, relu=self.relu)

    def plus(self, x: Tensor, coarse: Tensor) -> Tensor:
        """The same, with a coarser map (B, D, h', w') resized and added."""
        return group_norm_(self.conv(x), self.norm, relu=self.relu, coarse=coarse)


class _Attention(Attention):
    """With a packed layer for each of its inputs."""

    projections: nn.ModuleList

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        return [project(x) for project, x in zip(self.projections, inputs, strict=True)]


def _attention(plain: Attention, kind: torch.dtype) -> nn.Module:
    pairs = zip(plain.in_proj_weight.chunk(3), plain.in_proj_bias.chunk(3), strict=True)
    plain.projections = nn.ModuleList(PackedLinear(w, b, kind) for w, b in pairs)
    del plain.in_proj_weight, plain.in_proj_bias
    return as_class(plain, _Attention)


def _perceptron(plain: Perceptron, kind: torch.dtype) -> nn.Module:
    *hidden, last = plain.layers
    packed = [PackedLinear(x.weight, x.bias, kind, "relu") for x in hidden]  # type: ignore[arg-type]
    return nn.Sequential(*packed, last)


class _SwinBlock(swin.Block):
    """With its feed-forward a few tokens at a time."""

    feed: FeedForward

    def _feed(self, x: Tensor) -> Tensor:
        return self.feed(x)


def _swin_block(block: swin.Block, kind: torch.dtype) -> nn.Module:
    mlp = block.mlp
    block.feed = FeedForward(block.norm2, mlp.fc1, mlp.fc2, kind, between="gelu")
    del block.mlp, block.norm2
    return as_class(block, _SwinBlock)


class _WindowAttention(swin.WindowAttention):
    """With its bias looked up once."""

    bias: Tensor

    def _bias(self) -> Tensor:
        return self.bias


def _window_attention(attention: swin.WindowAttention, kind: torch.dtype) -> nn.Module:
    attention.register_buffer("bias", attention._bias().detach())
    return as_class(attention, _WindowAttention)


SHARED: dict[type[nn.Module], Preparation] = {
    nn.Linear: packed_linear,
    nn.Conv2d: packed_conv,
    ConvNorm: PackedConvNorm,
    Attention: _attention,
    Perceptron: _perceptron,
    ResNet: _resnet,
    swin.Block: _swin_block,
    swin.WindowAttention: _window_attention,
    **HORNET,
    **TIMM,
}
