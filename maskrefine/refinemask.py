"""RefineMask's mask head: masks at 14, 28, 56 and 112 cells, each stage seeing finer features.

"RefineMask: Towards High-Quality Instance Segmentation with Fine-Grained Features"
(arXiv 2104.08569), as in the released program, and its "faster-better" variant.
Legend of one-letter names: B samples, R regions (boxes), K classes, C channels, H W input pixels,
h w feature cells, s cells on a side of a region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine import official_names
from maskrefine.boundary_aware import doubled, merged
from maskrefine.layers import convs, own_class
from maskrefine.regions import MMDET_LEVELS, STRIDES, pool, pyramid_levels
from segcore.engine.renaming import Rows
from segcore.structures import Regions

BOTH: Rows = (  # (official, ours)
    ("instance_convs.0.conv.", "instance_convs.0."),
    ("instance_convs.1.conv.", "instance_convs.2."),
    *((f"semantic_convs.{i}.conv.", f"semantic_convs.{2 * i}.") for i in range(4)),
    ("stages.{}.semantic_transform_in.", "semantic_in.{}."),
    ("stages.{}.semantic_transform_out.", "stages.{}.semantic_out."),
    ("stages.{}.fuse_conv.0.", "stages.{}.fuse."),
    *((f"stages.{{}}.fuse_conv.1.dilation_conv_{i + 1}.conv.", f"stages.{{}}.branches.{i}.")
      for i in range(3)),
    ("stages.{}.fuse_conv.1.merge_conv.conv.", "stages.{}.merge."),
    ("stages.{}.fuse_transform_out.", "stages.{}.out."),
)  # fmt: skip
OFFICIAL: Rows = (
    *BOTH,
    ("final_instance_logits.", "logits.3."),
    ("stages.{}.instance_logits.", "logits.{}."),
    ("", ""),
)
OFFICIAL_SIMPLE: Rows = (*BOTH, ("stage_instance_logits.{}.", "logits.{}."), ("", ""))


class FusionStage(nn.Module):
    """Fuses a region's features with its mask and with fine semantic features; twice the size."""

    def __init__(self, channels: int, *, simple: bool, doubles: bool) -> None:
        """
        Args:
            channels: C of the region's and of the semantic features; half as many come out.
            simple: as in the "faster-better" variant.
            doubles: whether the result has twice as many cells on a side.
        """
        super().__init__()
        self.simple, self.doubles = simple, doubles
        masks = 1 if simple else 2  # the region's, and the semantic one
        if not simple:
            self.semantic_out = nn.Conv2d(channels, channels, 1)
        self.fuse = nn.Conv2d(2 * channels + masks, channels, 1)
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in (1, 3, 5)
        )
        self.merge = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels // 2 - masks, 1)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        semantic: Tensor,
        foreground: Tensor | None,
        regions: Regions,
    ) -> Tensor:
        """(R, C, s, s) -> (R, C/2, 2 s, 2 s), or s if nothing is doubled.

        Args:
            mask: (R, 1, s, s) probabilities of the stage's own mask.
            semantic: (B, C, H/4, W/4).
            foreground: (B, 1, H/4, W/4) probabilities; None in the simple variant.
        """
        s, sample, boxes = x.shape[-1], regions.sample, regions.boxes
        masks = [mask]
        if foreground is None:
            seen = centre_pool(semantic, sample, boxes, s)
        else:
            seen = F.relu(self.semantic_out(pool([semantic], sample, boxes, s)))
            masks.append(pool([foreground], sample, boxes, s))
        x = F.relu(self.fuse(torch.cat([x, seen, *masks], dim=1)))
        fused = sum(F.relu(branch(x)) for branch in self.branches)
        if self.simple:
            fused = fused + x.mean((2, 3), keepdim=True)
        x = F.relu(self.out(F.relu(self.merge(fused))))
        # published: features are doubled cell by cell, masks from corner to corner
        if not self.simple:
            return torch.cat([_doubled_cells(x), *map(doubled, masks)], dim=1)
        x = torch.cat([x, *masks], dim=1)
        return _doubled_cells(x) if self.doubles else x


class RefineMaskHead(nn.Module):
    """Masks of boxes in four stages; see the module's docstring."""

    def __init__(
        self,
        *,
        num_classes: int = 80,
        simple: bool = False,
        last_of_any_class: bool | None = None,
        dim: int = 256,
        at_once: int = 100,
    ) -> None:
        """
        Args:
            num_classes: K.
            simple: the "faster-better" variant: no semantic mask, one point a cell, and the last
                stage is computed at 56 and doubled.
            last_of_any_class: whether the last stage says the same for all classes; None: in the
                simple variant only. (Published for LVIS too.)
            at_once: boxes at test time; more take more memory.
        """
        super().__init__()
        self.simple, self.at_once = simple, at_once
        last = 1 if (simple if last_of_any_class is None else last_of_any_class) else num_classes
        self.instance_convs = nn.Sequential(*convs(dim, dim, dim))
        self.semantic_convs = nn.Sequential(*convs(dim, dim, dim, dim, dim))
        self.semantic_in = nn.ModuleList(nn.Conv2d(dim, dim >> k, 1) for k in range(3))
        self.stages = nn.ModuleList(
            FusionStage(dim >> k, simple=simple, doubles=k < 2 or not simple) for k in range(3)
        )
        self.logits = nn.ModuleList(
            nn.Conv2d(dim >> k, classes, 1)
            for k, classes in enumerate((num_classes, num_classes, num_classes, last))
        )
        self.semantic_logits = None if simple else nn.Conv2d(dim, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], regions: Regions) -> Regions:
        """Masks of a batch's boxes.

        Args:
            features: P2..P5, each (B, C, h, w).
            regions: in training (`matched` is given) each one shows an object. Their `logits`,
                where there are any, are the masks of the first stages.

        Returns:
            The regions with `logits` of the four stages. At test time the last two are merged with
            what came before, and `probabilities` (R, 112, 112) are the answer; in training
            `extras` has the "semantic" logits (B, 1, h, w), but not in the simple variant.
        """
        maps, semantic = self._maps(features[0])
        if regions.matched is not None:
            extras = {} if semantic is None else {"semantic": semantic}
            logits = self._stages(features, maps, semantic, regions)
            return replace(regions, logits=logits, extras=extras)
        parts: list[list[Tensor]] = []
        for start in range(0, max(len(regions.boxes), 1), self.at_once):
            part = slice(start, start + self.at_once)
            given = [stage[part] for stage in regions.logits]
            some = Regions(regions.sample[part], regions.boxes[part], regions.labels[part], given)
            parts.append(merged(self._stages(features, maps, semantic, some)))
        logits = [torch.cat(stage) for stage in zip(*parts, strict=True)]
        return replace(regions, logits=logits, probabilities=logits[-1][:, 0].sigmoid())

    def refine(self, features: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Masks in the boxes of one image: (R, 112, 112) in 0..1, float32.

        Args:
            features: P2..P5, each (1, C, h, w).
            boxes: (R, 4) x0 y0 x1 y1 in input pixels.
            labels: (R,) int64 0..K-1.
        """
        out = self(features, Regions(torch.zeros_like(labels), boxes, labels))
        assert out.probabilities is not None
        return out.probabilities

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """The published weights, without `roi_head.mask_head.` before their names."""
        official_names.load_official(self, state, OFFICIAL_SIMPLE if self.simple else OFFICIAL)

    def official_state(self) -> dict[str, Tensor]:
        """The weights under their published names."""
        return official_names.official_state(self, OFFICIAL_SIMPLE if self.simple else OFFICIAL)

    def _maps(self, finest: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """What each stage reads of P2, and foreground logits (B, 1, h, w)."""
        semantic = self.semantic_convs(finest)
        maps = [F.relu(conv(semantic)) for conv in self.semantic_in]
        return maps, None if self.semantic_logits is None else self.semantic_logits(semantic)

    def _stages(
        self,
        features: Sequence[Tensor],
        maps: list[Tensor],
        semantic: Tensor | None,
        regions: Regions,
    ) -> list[Tensor]:
        level = pyramid_levels(regions.boxes, **MMDET_LEVELS)
        x = self.instance_convs(pool(features, regions.sample, regions.boxes, 14, level=level))
        foreground = None if semantic is None else semantic.float().sigmoid()
        out = []
        for k, stage in enumerate(self.stages):
            given = k < len(regions.logits)  # by another model
            out.append(regions.logits[k] if given else own_class(self.logits[k](x), regions.labels))
            x = stage(x, out[-1].sigmoid(), maps[k], foreground, regions)
        last = own_class(self.logits[-1](x), regions.labels)
        return [*out, doubled(last) if self.simple else last]


def centre_pool(feature: Tensor, sample: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The finest feature (B, C, h, w) at the centre of every cell: (R, C, s, s) float32.

    Unlike RoIAlign, which repeats the border, it fades to zero outside the feature, as published.
    """
    pooled = pool([feature], sample, boxes, size, sampling=1)
    cell = (torch.arange(size, device=boxes.device) + 0.5) / size
    start, end = boxes.float()[:, None].split(2, dim=2)  # (R, 1, 2) x y
    place = (start + cell[:, None] * (end - start)) / STRIDES[0] - 0.5  # (R, s, 2)
    length = torch.tensor(feature.shape[:1:-1], device=boxes.device)  # w h
    weight = (place + 1).clamp(0, 1) * (length - place).clamp(0, 1)
    return pooled * weight[:, None, None, :, 0] * weight[:, None, :, None, 1]


def _doubled_cells(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")
