"""Backbones by timm: ResNet under its published numbers, and any other network by name.

All return res2..res5 (strides 4, 8, 16, 32), fine to coarse.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.errors import ConfigError
from segcore.nn.layers import run_blocks, watched

STRIDES = (4, 8, 16, 32)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation whose statistics and affine values never change; all buffers."""

    def __init__(self, channels: int, eps: float = 1e-5, **where: Any) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels, **where))
        self.register_buffer("bias", torch.zeros(channels, **where))
        self.register_buffer("running_mean", torch.zeros(channels, **where))
        self.register_buffer("running_var", torch.ones(channels, **where) - eps)

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class SyncBatchNorm2d(nn.SyncBatchNorm):
    """SyncBN on several GPUs, plain batch normalisation on the CPU and on one."""

    def forward(self, input: Tensor) -> Tensor:
        if input.is_cuda:
            return super().forward(input)
        momentum = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            momentum,
            self.eps,
        )


def conv_norm(
    x: Tensor,
    conv: nn.Module,
    norm: nn.Module,
    *,
    added: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """norm(conv(x)), perhaps a sum and ReLU: (B, C, h, w) -> (B, D, h', w').

    A norm whose statistics stand still is folded into the convolution's weights: no pass over the
    map and, in training, no map kept for it.

    Args:
        conv: plain, or what stands in its place in a prepared model.
        added: (B, D, h', w') added to the result, before ReLU; its memory may become the result's.
    """
    prepared = not isinstance(conv, nn.Conv2d)
    if prepared and isinstance(norm, nn.Identity):  # the norm is inside
        return conv(x, added, relu)
    moves = norm.training and not isinstance(norm, FrozenBatchNorm2d)
    if prepared or moves or watched(conv) or watched(norm):
        y = norm(conv(x))
    else:
        weight, bias = folded(conv, norm)
        y = conv._conv_forward(x, weight, bias)
    if added is not None:
        y.add_(added)  # no convolution needs its own output again
    return y.relu_() if relu else y


def folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (D, C, k, k) and bias (D,) of a convolution and a norm that stands still, in one."""
    mean, var, gain, offset = (
        getattr(norm, name) for name in ("running_mean", "running_var", "weight", "bias")
    )
    scale = gain * torch.rsqrt(var + norm.eps)
    if conv.bias is not None:
        mean = mean - conv.bias
    return conv.weight * scale[:, None, None, None], offset - mean * scale


NORMS = {"FrozenBN": FrozenBatchNorm2d, "BN": nn.BatchNorm2d, "SyncBN": SyncBatchNorm2d}


class ResNet(nn.Module):
    """ResNet-50 or -101 with stride in the 3x3 convolution, as torchvision and timm have it.

    Args:
        use_checkpoint: trade time for memory in training.
    """

    strides = STRIDES
    channels = (256, 512, 1024, 2048)

    def __init__(
        self, depth: int = 50, norm: str = "FrozenBN", *, use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        if norm not in NORMS:
            raise ConfigError(f"MODEL.RESNETS.NORM {norm!r}: expected one of {', '.join(NORMS)}")
        if depth not in (50, 101, 152):
            raise ConfigError(f"MODEL.RESNETS.DEPTH {depth}: expected 50, 101 or 152")
        body: Any = timm.create_model(
            f"resnet{depth}", norm_layer=NORMS[norm], zero_init_last=False
        )
        self.conv1, self.bn1 = body.conv1, body.bn1
        self.layers = nn.ModuleList(getattr(body, f"layer{i}") for i in range(1, 5))
        if use_checkpoint:
            _check_recomputable(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> four maps (B, C, h, w)."""
        x = images.contiguous(memory_format=torch.channels_last)  # what convolutions like best
        x = F.max_pool2d(conv_norm(x, self.conv1, self.bn1, relu=True), 3, 2, 1)
        features = []
        for layer in self.layers:
            blocks = (partial(_bottleneck, block) for block in cast(nn.Sequential, layer))
            x = run_blocks(blocks, x, self.use_checkpoint and self.training)
            features.append(x)
        return features


def _bottleneck(block: Any, x: Tensor) -> Tensor:
    """timm's Bottleneck, with its norms folded where they stand still."""
    y = conv_norm(x, block.conv1, block.bn1, relu=True)
    y = conv_norm(y, block.conv2, block.bn2, relu=True)
    if block.downsample is not None:
        x = conv_norm(x, block.downsample[0], block.downsample[1])
    return conv_norm(y, block.conv3, block.bn3, added=x, relu=True)


class TimmBackbone(nn.Module):
    """Any network of timm that gives features at strides 4, 8, 16 and 32.

    Args:
        name: timm's model name, e.g. "convnext_tiny.fb_in22k". Weights come from MODEL.WEIGHTS.
        frozen_norm: batch normalisation keeps its statistics and weights, for small batches.
        drop_path: rate of stochastic depth in training, for networks that have it.
        use_checkpoint: trade time for memory in training, for networks of which timm can.
    """

    strides = STRIDES

    def __init__(
        self,
        name: str,
        frozen_norm: bool = False,
        *,
        drop_path: float | None = None,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not timm.is_model(name.split(".")[0]):
            near = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5])
            raise ConfigError(f"timm has no model {name!r}; similar: {near or 'none'}")
        options = {} if drop_path is None else {"drop_path_rate": drop_path}
        self.body: Any = _features(name, options)
        self.channels = tuple(self.body.feature_info.channels())
        layout = getattr(self.body, "output_fmt", None)
        self.channels_last = layout is not None and str(layout.value) == "NHWC"
        self.frozen = [
            m for m in self.body.modules() if frozen_norm and isinstance(m, nn.BatchNorm2d)
        ]
        for norm in self.frozen:
            norm.requires_grad_(False)
        if use_checkpoint:
            if not frozen_norm:
                _check_recomputable(self)
            _recompute(self.body, name)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Frozen normalisation stays in eval mode."""
        super().train(mode)
        for norm in self.frozen:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> four maps (B, C, h, w)."""
        x = images.contiguous(memory_format=torch.channels_last)  # what convolutions like best
        maps = self.body(x)
        return [x.permute(0, 3, 1, 2) for x in maps] if self.channels_last else list(maps)


def _check_recomputable(model: nn.Module) -> None:
    """ConfigError where a norm would count what it sees twice."""
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    if any(isinstance(m, kinds) for m in model.modules()):
        raise ConfigError(
            "MODEL.BACKBONE.USE_CHECKPOINT true computes blocks twice, and batch normalisation"
            " would count every image twice: set MODEL.RESNETS.NORM FrozenBN (of timm's networks"
            " MODEL.BACKBONE.FROZEN_NORM true), or leave USE_CHECKPOINT false"
        )


def _recompute(body: Any, name: str) -> None:
    """Tell timm's network to keep less for backward."""
    owner = body if hasattr(body, "set_grad_checkpointing") else getattr(body, "model", None)
    try:
        cast(Any, owner).set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        raise ConfigError(
            f"MODEL.BACKBONE.USE_CHECKPOINT true: timm's {name} cannot; set it to false"
        ) from None


def _features(name: str, options: dict[str, Any]) -> Any:
    """timm's network, cut down to what gives strides 4, 8, 16 and 32; at any image size."""
    found = list(_create(name, options).feature_info.reduction())
    if not set(STRIDES) <= set(found):
        lacking = ", ".join(str(s) for s in STRIDES if s not in found)
        raise ConfigError(
            f"MODEL.BACKBONE.NAME timm/{name}: its features have strides {found}, without"
            f" {lacking}; choose a network with strides 4, 8, 16 and 32, e.g. timm/convnext_tiny"
        )
    index = [len(found) - 1 - found[::-1].index(s) for s in STRIDES]
    return _create(name, options | {"out_indices": index})


def _create(name: str, options: dict[str, Any]) -> Any:
    wanted: dict[str, Any] = {"features_only": True, "pretrained": False} | options
    if "swin" in name:  # the only family that refuses images of another size
        wanted["strict_img_size"] = False
    try:
        return timm.create_model(name, **wanted)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(f"MODEL.BACKBONE.NAME timm/{name}: timm says: {error}") from error
