"""ResNet and ResNeXt as detection checkpoints need them (He et al., 2015; Xie et al., 2016).

Their statistics stand still; the stride of a stage is in the first 1x1 or in the 3x3 convolution;
the 3x3 may be deformable (Dai et al., 2017: version 1, offsets without a mask).

Legend of one-letter names: B images, C channels, H W input pixels, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.regions import deform_conv
from segcore.errors import ConfigError
from segcore.nn.backbones import STRIDES, FrozenBatchNorm2d, conv_norm, folded

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # blocks of a stage


class StandingBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics stand still while its affine values learn."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.training = False  # a new module would count its first batches

    def train(self, mode: bool = True) -> StandingBatchNorm2d:
        """Always in eval mode."""
        return super().train(False)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut.

    Args:
        stride_in_1x1: as the first networks had it (MSRA's); else in the 3x3 (torchvision's).
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        out: int,
        *,
        stride: int,
        stride_in_1x1: bool,
        groups: int,
        deformable: bool,
        norm: type[nn.Module],
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(channels, inner, 1, first, bias=False)
        self.bn1 = norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, groups=groups, bias=False)
        self.bn2 = norm(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = norm(out)
        self.conv2_offset = nn.Conv2d(inner, 18, 3, second, 1) if deformable else None
        self.downsample = None
        if stride > 1 or channels != out:
            shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, out, h', w')."""
        y = conv_norm(x, self.conv1, self.bn1).relu_()
        y = self._middle(y).relu_()
        y = conv_norm(y, self.conv3, self.bn3)
        if self.downsample is not None:
            conv, norm = self.downsample
            x = conv_norm(x, conv, norm)  # type: ignore[arg-type]
        return y.add_(x).relu_()  # no convolution needs its own output again

    def _middle(self, x: Tensor) -> Tensor:
        conv = self.conv2
        if self.conv2_offset is None:
            return conv_norm(x, conv, self.bn2)
        weight, bias = folded(conv, self.bn2)
        stride = (conv.stride[0], conv.stride[1])
        offset = self.conv2_offset(x)  # (B, 18, h, w): y and x of each of the nine samples
        return deform_conv(x, offset, weight, bias, stride=stride, padding=(1, 1))


class ResNet(nn.Module):
    """res2..res5 of a ResNet or ResNeXt.

    Args:
        depth: 50, 101 or 152.
        stride_in_1x1: where the stride of res3..res5 is; checkpoints know one of the two.
        groups: of the 3x3 convolutions: 1, or 32 for ResNeXt-101 32x8d.
        width: channels of a group in res2: 64, or 8 for ResNeXt-101 32x8d.
        deformable: of res2..res5 each, whether its 3x3 convolutions are.
        learned_affine: normalisation keeps its statistics only (mmdetection); else all its values
            stand still (detectron2).
        freeze_at: parts that do not learn: 1 the stem, 2 res2 too ... 0 none.
    """

    strides = STRIDES
    channels = (256, 512, 1024, 2048)

    def __init__(
        self,
        depth: int = 50,
        *,
        stride_in_1x1: bool = False,
        groups: int = 1,
        width: int = 64,
        deformable: Sequence[bool] = (False, False, False, False),
        learned_affine: bool = False,
        freeze_at: int = 2,
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ConfigError(f"MODEL.RESNETS.DEPTH {depth}: expected 50, 101 or 152")
        norm = StandingBatchNorm2d if learned_affine else FrozenBatchNorm2d
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.layers = nn.ModuleList()
        options: dict[str, Any] = {"stride_in_1x1": stride_in_1x1, "groups": groups, "norm": norm}
        channels = 64
        for i, (blocks, out) in enumerate(zip(DEPTHS[depth], self.channels, strict=True)):
            stage = nn.Sequential()
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                inner = groups * width * 2**i
                more = options | {"stride": stride, "deformable": deformable[i]}
                stage.append(Bottleneck(channels, inner, out, **more))
                channels = out
            self.layers.append(stage)
        self._initialise()
        for part in [nn.ModuleList((self.conv1, self.bn1)), *self.layers][:freeze_at]:
            part.requires_grad_(False)

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if name.endswith("conv2_offset"):  # deformation starts from nothing
                nn.init.zeros_(module.weight)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> four maps (B, C, h, w)."""
        x = images.contiguous(memory_format=torch.channels_last)  # what convolutions like best
        x = F.max_pool2d(conv_norm(x, self.conv1, self.bn1).relu_(), 3, 2, 1)
        features = []
        for stage in self.layers:
            x = stage(x)
            features.append(x)
        return features
