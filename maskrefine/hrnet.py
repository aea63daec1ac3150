"""The network of boundary patch refinement: a four-channel HRNetV2 with an FCN head.

As in section 3.3 of BPR (arXiv 2104.05239); every name is the official checkpoint's.

Legend of one-letter names: B patches, C channels, S side of a patch, h w feature cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.errors import WeightsError
from segcore.nn.backbones import SyncBatchNorm2d, conv_norm

STEM = 64  # channels of the stem; a bottleneck gives four times as many
NUM_CLASSES = 2  # background and foreground


@dataclass(frozen=True, slots=True)
class Variant:
    """One published size of the network."""

    input_size: int  # pixels that a patch is resized to
    width: int  # channels of the finest branch; each coarser one has twice as many
    bottlenecks: int  # blocks of the first stage
    modules: tuple[int, int, int]  # of stages 2, 3 and 4
    blocks: int  # of each branch of a module


VARIANTS = {
    "hrnet18s": Variant(128, 18, 2, (1, 3, 2), 2),
    "hrnet48": Variant(256, 48, 4, (1, 4, 3), 4),
}


class PatchNetwork(nn.Module):
    """Image and coarse mask of a patch -> background and foreground logits at a quarter."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.input_size = variant.input_size
        self.backbone = HRNet(variant)
        self.decode_head = FCNHead(self.backbone.channels)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, 4, S, S) normalised RGB and the mask as -1 or 1 -> (B, 2, S/4, S/4) logits."""
        return self.decode_head(self.backbone(patches))

    def load_official(self, state: Mapping[str, Any]) -> None:
        """Take a published checkpoint's `state_dict`.

        Raises WeightsError where a name or a shape differs.
        """
        own = self.state_dict()
        given = {k: v for k, v in state.items() if k in own}
        missing = sorted(own.keys() - given.keys())
        # files from before PyTorch 0.4.1 have no counters
        missing = [k for k in missing if not k.endswith("num_batches_tracked")]
        unknown = sorted(state.keys() - own.keys())
        wrong = sorted(k for k, v in given.items() if v.shape != own[k].shape)
        for what, names in (("lacks", missing), ("has unknown", unknown), ("misshapes", wrong)):
            if names:
                raise WeightsError(
                    f"the checkpoint {what} {len(names)} tensors of the patch network, first"
                    f" {names[0]}; is it of the other size ({', '.join(VARIANTS)})?"
                )
        self.load_state_dict(given, strict=False)


class HRNet(nn.Module):
    """HRNetV2 whose stem also sees a coarse mask: four maps at strides 4 to 32."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.channels = tuple(variant.width * 2**i for i in range(4))
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.conv_mask = nn.Conv2d(1, STEM, 3, 2, 1, bias=False)
        self.bn1 = SyncBatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False)
        self.bn2 = SyncBatchNorm2d(STEM)
        first = [Bottleneck(STEM, wider=True)]
        first += [Bottleneck(4 * STEM) for _ in range(variant.bottlenecks - 1)]
        self.layer1 = nn.Sequential(*first)
        c, blocks = self.channels, variant.blocks
        self.transition1 = _transition((4 * STEM,), c[:2])
        self.stage2 = _stage(c[:2], variant.modules[0], blocks)
        self.transition2 = _transition(c[:2], c[:3])
        self.stage3 = _stage(c[:3], variant.modules[1], blocks)
        self.transition3 = _transition(c[:3], c)
        self.stage4 = _stage(c, variant.modules[2], blocks)
        self._draw()

    def _draw(self) -> None:
        """He's initialisation, but for the mask's convolution: published runs leave it torch's."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.conv_mask:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, patches: Tensor) -> list[Tensor]:
        """(B, 4, S, S) -> four maps (B, C, h, w)."""
        x = patches.contiguous(memory_format=torch.channels_last)  # what convolutions like best
        x = self.layer1(conv_norm(self._stem(x), self.conv2, self.bn2, relu=True))
        maps = self.stage2([step(x) for step in self.transition1])
        maps = self.stage3(_apply(self.transition2, maps))
        return self.stage4(_apply(self.transition3, maps))

    def _stem(self, x: Tensor) -> Tensor:
        return self.bn1(F.conv2d(x, self.stem_weight(), None, 2, 1)).relu_()

    def stem_weight(self) -> Tensor:
        """(64, 4, 3, 3): conv1 of the image plus conv_mask of the mask."""
        return torch.cat((self.conv1.weight, self.conv_mask.weight), 1)


def _stage(channels: Sequence[int], modules: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ExchangeModule(channels, blocks) for _ in range(modules)))


def _apply(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    """The new branch reads the coarsest map."""
    return [step(m) for step, m in zip(transition, [*maps, maps[-1]], strict=True)]


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and, if asked for, ReLU."""

    def __init__(self, inside: int, out: int, size: int, *, stride: int, relu: bool) -> None:
        conv = nn.Conv2d(inside, out, size, stride, size // 2, bias=False)
        super().__init__(conv, SyncBatchNorm2d(out), *[nn.ReLU()] * relu)

    def forward(self, input: Tensor) -> Tensor:
        return conv_norm(input, cast(nn.Conv2d, self[0]), self[1], relu=len(self) > 2)


class Bottleneck(nn.Module):
    """ResNet's block of 1x1, 3x3 and 1x1 convolutions.

    Args:
        wider: the input has a quarter of the output's channels.
    """

    def __init__(self, inside: int, wider: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, STEM, 1, bias=False), SyncBatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 1, 1, bias=False)
        self.bn2 = SyncBatchNorm2d(STEM)
        self.conv3 = nn.Conv2d(STEM, 4 * STEM, 1, bias=False)
        self.bn3 = SyncBatchNorm2d(4 * STEM)
        self.downsample = (
            ConvNorm(inside, 4 * STEM, 1, stride=1, relu=False) if wider else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 256, h, w)."""
        y = conv_norm(x, self.conv1, self.bn1, relu=True)
        y = conv_norm(y, self.conv2, self.bn2, relu=True)
        return conv_norm(y, self.conv3, self.bn3, added=self.downsample(x), relu=True)


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = SyncBatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = SyncBatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same."""
        y = conv_norm(x, self.conv1, self.bn1, relu=True)
        return conv_norm(y, self.conv2, self.bn2, added=x, relu=True)


class ExchangeModule(nn.Module):
    """Parallel branches, each of which then reads all others."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(channels, source, goal) for source in range(len(channels)))
            for goal in range(len(channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map (B, C, h, w) a branch -> the same."""
        maps = [branch(m) for branch, m in zip(self.branches, maps, strict=True)]
        fused = []
        for own, paths in zip(maps, self.fuse_layers, strict=True):
            parts = [
                resize(path(m), own.shape[-1])
                for path, m in zip(cast(nn.ModuleList, paths), maps, strict=True)
            ]
            total = parts[0] + parts[1]
            for part in parts[2:]:
                total += part
            fused.append(total.relu_())
        return fused


def _path(channels: Sequence[int], source: int, goal: int) -> nn.Module:
    """How one branch reads another: coarser ones are upsampled afterwards, finer ones halved."""
    if source == goal:
        return nn.Identity()
    if source > goal:
        return ConvNorm(channels[source], channels[goal], 1, stride=1, relu=False)
    c, last = channels[source], goal - source - 1
    halvings = [ConvNorm(c, c, 3, stride=2, relu=True) for _ in range(last)]
    return nn.Sequential(*halvings, ConvNorm(c, channels[goal], 3, stride=2, relu=False))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Maps of the stage before, the coarsest twice, -> maps of the next."""
    steps: list[nn.Module] = []
    for i, channels in enumerate(after):
        if i >= len(before):  # a new branch
            steps.append(nn.Sequential(ConvNorm(before[-1], channels, 3, stride=2, relu=True)))
        elif channels == before[i]:
            steps.append(nn.Identity())
        else:
            steps.append(ConvNorm(before[i], channels, 3, stride=1, relu=True))
    return nn.ModuleList(steps)


class FCNHead(nn.Module):
    """All maps at the finest one's size, mixed by one 1x1 convolution, then classified."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels, total = tuple(channels), sum(channels)
        mix = nn.Module()
        mix.conv, mix.bn = nn.Conv2d(total, total, 1, bias=False), SyncBatchNorm2d(total)
        nn.init.kaiming_normal_(mix.conv.weight, mode="fan_out", nonlinearity="relu")
        self.convs = nn.ModuleList([mix])
        self.conv_seg = nn.Conv2d(total, NUM_CLASSES, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps (B, C, h, w) -> (B, 2, h, w) of the finest."""
        # published: all maps resized, then one convolution; 1x1 ones and resizing commute
        x, *coarse = self._mixed(maps)
        for one in coarse:
            x = x + resize(one, x.shape[-1])
        return self.conv_seg(self._norm(x).relu_())

    def _mixed(self, maps: list[Tensor]) -> list[Tensor]:
        """Each map by its part of the convolution."""
        weights = cast(Any, self.convs[0]).conv.weight.split([m.shape[1] for m in maps], 1)
        return [F.conv2d(one, weight) for one, weight in zip(maps, weights, strict=True)]

    def _norm(self, x: Tensor) -> Tensor:
        return cast(Any, self.convs[0]).bn(x)


def resize(maps: Tensor, side: int) -> Tensor:
    """(B, C, h, w) -> (B, C, side, side), bilinear between cell centres."""
    if maps.shape[-1] == side:
        return maps
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
