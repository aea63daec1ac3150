"""The second stage (Fast R-CNN, Girshick 2015): what a proposal is, and where exactly.

Legend of one-letter names: B images, R regions, K classes, C channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.boxes import REGION_WEIGHTS, clip, decode
from maskrefine.numerics import Numerics
from maskrefine.regions import pool, pyramid_levels, suppress
from segcore.structures import Regions


class BoxHead(nn.Module):
    """Two linear layers on pooled features, then classes and a box a class.

    Args:
        cells: on a side of what is pooled.
        score_threshold: a detection's score is above it.
        overlap: intersection over union above which the lesser of two boxes of a class goes.
        max_detections: of an image.
    """

    def __init__(
        self,
        channels: int = 256,
        *,
        num_classes: int,
        numerics: Numerics,
        cells: int = 7,
        hidden: int = 1024,
        score_threshold: float = 0.05,
        overlap: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes, self.numerics, self.cells = num_classes, numerics, cells
        self.score_threshold, self.overlap = score_threshold, overlap
        self.max_detections = max_detections
        self.fc1 = nn.Linear(channels * cells**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.classes = nn.Linear(hidden, num_classes + 1)  # last: background
        self.deltas = nn.Linear(hidden, 4 * num_classes)
        numerics.fill(self.fc1.weight)
        numerics.fill(self.fc2.weight)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        for layer in (self.fc1, self.fc2, self.classes, self.deltas):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
        """p2..p5 and R boxes -> (R, K+1) logits, (R, K, 4) deltas, in float32."""
        level = pyramid_levels(regions.boxes, **self.numerics.levels)
        x = pool(features, regions.sample, regions.boxes, self.cells, level=level)
        x = F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))
        return self.classes(x).float(), self.deltas(x).float().unflatten(1, (-1, 4))

    def detect(self, logits: Tensor, deltas: Tensor, regions: Regions, sizes: Tensor) -> Regions:
        """What is in the images: boxes with scores, best first within an image.

        Args:
            logits: (R, K+1).
            deltas: (R, K, 4).
            sizes: (B, 2) height and width without padding, on the device.
        """
        probabilities = logits.softmax(-1)[:, :-1]
        likely = probabilities > self.score_threshold
        row, label = likely.nonzero(as_tuple=True)
        score, sample = probabilities[row, label], regions.sample[row]
        limited = self.numerics.shrink_limited
        boxes = decode(
            regions.boxes[row], deltas[row, label], REGION_WEIGHTS, shrink_limited=limited
        )
        boxes = clip(boxes, sizes[sample])
        kept = []
        for i in range(len(sizes)):
            rows = (sample == i).nonzero()[:, 0]
            best = suppress(boxes[rows], score[rows], label[rows], self.overlap)
            kept.append(rows[best[: self.max_detections]])
        kept = torch.cat(kept)
        return Regions(sample[kept], boxes[kept], label[kept], scores=score[kept])
