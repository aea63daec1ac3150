"""Region proposals (Ren et al., 2015): anchors that may hold an object, and the best of them.

Legend of one-letter names: B images, A anchors of all levels, R regions, C channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.boxes import cell_anchors, clip, decode, grid_anchors, has_area
from maskrefine.numerics import Numerics
from maskrefine.regions import suppress


@dataclass(slots=True)
class AnchorScores:
    """What the head says of every anchor, level after level."""

    anchors: list[Tensor]  # a level (n, 4)
    logits: list[Tensor]  # a level (B, n)
    deltas: list[Tensor]  # a level (B, n, 4)


class RegionProposals(nn.Module):
    """One small head for all levels, and the choice of proposals.

    Args:
        sizes: of anchors in pixels, a level.
        ratios: height over width of the anchors of a cell.
        train: proposals of a level before suppression, and of an image after it, in training.
        test: the same at test time.
        overlap: intersection over union above which the lesser of two proposals goes.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        numerics: Numerics,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        train: tuple[int, int] = (2000, 1000),
        test: tuple[int, int] = (1000, 1000),
        overlap: float = 0.7,
    ) -> None:
        super().__init__()
        self.numerics, self.strides, self.overlap = numerics, tuple(strides), overlap
        self.limits = {True: train, False: test}
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.logits = nn.Conv2d(channels, len(ratios), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(ratios), 1)
        for conv in (self.conv, self.logits, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        for i, size in enumerate(sizes):
            self.register_buffer(f"cells{i}", cell_anchors(size, ratios), persistent=False)

    def forward(self, pyramid: Sequence[Tensor]) -> AnchorScores:
        """p2..p6 (B, C, h, w) -> what is said of their anchors, in float32."""
        anchors, logits, deltas = [], [], []
        for i, (x, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            h, w = x.shape[-2:]
            x = F.relu(self.conv(x))
            score = self.logits(x).permute(0, 2, 3, 1).flatten(1)  # (B, h w 3)
            delta = self.deltas(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4)  # (B, h w 3, 4)
            logits.append(score.float())
            deltas.append(delta.float())
            anchors.append(grid_anchors(getattr(self, f"cells{i}"), h, w, stride))
        return AnchorScores(anchors, logits, deltas)

    @torch.no_grad()
    def choose(self, said: AnchorScores, sizes: Tensor, *, training: bool) -> list[Proposed]:
        """The best proposals of every image.

        Args:
            sizes: (B, 2) height and width without padding, on the device.
        """
        before, after = self.limits[training]
        boxes, scores, levels = [], [], []
        for i, (anchors, logits, deltas) in enumerate(
            zip(said.anchors, said.logits, said.deltas, strict=True)
        ):
            rank = logits.sigmoid() if self.numerics.ranked_by_probability else logits
            best, index = rank.topk(min(before, rank.shape[1]), dim=1)
            moved = deltas.gather(1, index[..., None].expand(-1, -1, 4))
            limited = self.numerics.shrink_limited
            boxes.append(decode(anchors[index], moved, shrink_limited=limited))
            scores.append(best)
            levels.append(torch.full_like(index, i))
        boxes = clip(torch.cat(boxes, 1), sizes[:, None])  # (B, P, 4)
        proposed = []
        images = zip(boxes, torch.cat(scores, 1), torch.cat(levels, 1), strict=True)
        for box, score, level in images:
            if not self.numerics.empty_kept:
                kept = has_area(box)
                box, score, level = box[kept], score[kept], level[kept]
            kept = suppress(box, score, level, self.overlap)[:after]
            proposed.append(Proposed(box[kept], score[kept]))
        return proposed


@dataclass(slots=True)
class Proposed:
    """Proposals of one image, best first."""

    boxes: Tensor  # (R, 4)
    scores: Tensor  # (R,) logits or probabilities, as the numerics rank them
