"""Mask Transfiner's mask head: a coarse mask, where it is unsure, and a second look there.

"Mask Transfiner for High-Quality Instance Segmentation" (arXiv 2111.13673), as in the released
program, which differs from the paper.
Legend of one-letter names: B samples, R regions (boxes), n of them refined, K classes, C channels,
H W input pixels, h w feature cells, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine import official_names
from maskrefine.layers import convs, own_class
from maskrefine.quadtree import (
    Cells,
    Look,
    all_cells,
    candidates,
    chosen,
    corrected,
    drawn,
    features_at,
    most_uncertain,
)
from maskrefine.regions import pool, pyramid_levels
from maskrefine.token_encoder import TokenEncoder
from segcore.engine.renaming import Rows
from segcore.structures import Regions

OFFICIAL: Rows = (  # (official, ours)
    ("mask_pooler.conv_norm_relus_semantic.", "semantic."),
    *((f"mask_head.mask_fcn{i + 1}.", f"convs.{2 * i}.") for i in range(4)),
    *((f"mask_head.mask_fcn_uncertain{i + 1}.", f"uncertain.{2 * i}.") for i in range(4)),
    ("mask_head.deconv_uncertain.", "uncertain.8."),
    ("mask_head.predictor_uncertain.", "uncertain.9."),
    ("mask_head.deconv_bo.", "boundary.0."),
    ("mask_head.predictor_bo.", "boundary.2."),
    ("mask_head.deconv.", "masks.0."),
    ("mask_head.predictor.", "masks.2."),
    ("mask_head.predictor_semantic_s.", "semantic_logits."),
    ("mask_head.encoder.conv_fuse.", "encoder.fuse."),
    ("mask_head.encoder.conv_r1.0.", "encoder.answer.0."),
    ("mask_head.encoder.conv_r1.2.", "encoder.answer.1."),
    ("mask_head.", ""),
)
# used in training only; released weights of before May 2022 have no boundary
OPTIONAL = ("mask_head.deconv_bo.", "mask_head.predictor_bo.", "mask_head.predictor_semantic_s.")


class TransfinerHead(nn.Module):
    """Refines the masks of boxes; see the module's docstring."""

    def __init__(
        self,
        *,
        num_classes: int = 80,
        dim: int = 256,
        dropout: float = 0.1,
        train_limit: int | None = 30,
        test_limit: int | None = 10,
        limit_per_image: bool = False,
        train_thresholds: Sequence[float] = (0.125, 0.5, 0.5),
        test_thresholds: Sequence[float] = (1e-6, 0.125, 0.8),
        test_cells: int | None = None,
        samples: int = 150,
        least: int = 10,
    ) -> None:
        """The published numbers by default.

        Args:
            num_classes: K; 1: masks do not depend on the class.
            train_limit, test_limit: how many boxes, the first ones, get a second look; None: all.
            limit_per_image: whether the limit is for each image instead of the whole batch.
            train_thresholds, test_thresholds: uncertainty from which a cell of the grids 28, 56
                and 112 gets a second look.
            test_cells: how many cells of a box in each of these grids, the least sure ones, get
                one at test time; None: all, as published. A head that is unsure everywhere, as one
                is early in training, takes 16,000 cells a box, and time and memory of their square.
            samples: cells of each grid that are drawn in training.
            least: a box with fewer cells than this in any grid is left out in training.
        """
        super().__init__()
        self.train_limit, self.test_limit = train_limit, test_limit
        self.limit_per_image = limit_per_image
        self.train_thresholds, self.test_thresholds = train_thresholds, test_thresholds
        self.test_cells, self.samples, self.least = test_cells, samples, least
        half = dim // 2
        self.semantic = nn.Sequential(*convs(dim, dim, dim, dim, dim)[:-1])
        self.convs = nn.Sequential(*convs(dim, dim, dim, dim, dim))
        self.masks = nn.Sequential(*_doubled(dim), nn.Conv2d(dim, num_classes, 1))
        up = nn.ConvTranspose2d(half, half, 2, stride=2)  # no ReLU follows
        self.uncertain = nn.Sequential(*convs(dim, dim, dim, dim, half), up, nn.Conv2d(half, 1, 1))
        self.boundary = nn.Sequential(*_doubled(dim), nn.Conv2d(dim, 1, 1))
        self.semantic_logits = nn.Conv2d(dim, 1, 1)
        self.encoder = TokenEncoder(dim=dim, dropout=dropout)
        self._initialise()

    def _initialise(self) -> None:
        for layer in _weighted(self.semantic):
            nn.init.xavier_uniform_(layer.weight)
        for branch in (self.convs, self.masks, self.uncertain, self.boundary):
            for layer in _weighted(branch):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for branch in (self.masks, self.uncertain, self.boundary):
            nn.init.normal_(_weighted(branch)[-1].weight, std=0.001)

    def forward(self, features: Sequence[Tensor], regions: Regions) -> Regions:
        """Masks of a batch's boxes.

        Args:
            features: P2..P5, each (B, C, h, w).
            regions: the best boxes of a sample first; in training (`matched` is given) each one
                shows an object. Their last `logits`, where there are any, are the coarse masks.

        Returns:
            The regions with `logits` (R, 1, 28, 28) of their class. At test time with
            `probabilities` (R, 112, 112); in training with the `extras` of `transfiner_losses`.
        """
        return (self._test if regions.matched is None else self._train)(features, regions)

    def refine(self, features: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Masks in the boxes of one image: (R, 112, 112) in 0..1, float32.

        Args:
            features: P2..P5, each (1, C, h, w).
            boxes: (R, 4) x0 y0 x1 y1 in input pixels, best first.
            labels: (R,) int64 0..K-1.
        """
        out = self(features, Regions(torch.zeros_like(labels), boxes, labels))
        assert out.probabilities is not None
        return out.probabilities

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        """The published weights, as `mask_head.*` and `mask_pooler.*`."""
        official_names.load_official(self, state, OFFICIAL, OPTIONAL)

    def official_state(self) -> dict[str, Tensor]:
        """The weights under their published names."""
        return official_names.official_state(self, OFFICIAL)

    def _train(self, features: Sequence[Tensor], regions: Regions) -> Regions:
        look, hidden, logits, semantic = self.first_look(features, regions)
        uncertain = self.uncertainty(look.pooled, hidden)
        rows = self._first(regions.sample, self.train_limit)
        enough = candidates(uncertain[rows].detach(), self.train_thresholds)
        valid, cells = drawn(enough, self.samples, self.least)
        if len(valid):
            rows = rows[valid]
        else:  # the encoder learns from the pooled cells alone
            cells = []
        cells = [all_cells(14, len(rows), rows.device), *cells]
        extras = {
            "uncertain": uncertain,  # (R, 1, 28, 28) in 0..1
            "boundary": self.boundary(hidden),  # (R, 1, 28, 28) logits
            "semantic": self.semantic_logits(semantic),  # (B, 1, h, w) logits
            "tokens": self.encode(look.of(rows), cells),  # (S,) in 0..1, grid by grid
        }
        for c in cells:  # (2, s) region and cell of each token
            extras[f"cells{c.grid}"] = torch.stack((rows[c.box], c.cell))
        return replace(regions, logits=[logits], extras=extras)

    def _test(self, features: Sequence[Tensor], regions: Regions) -> Regions:
        if not len(regions.boxes):
            none = torch.zeros(0, 112, 112, device=features[0].device)
            return replace(regions, logits=[none[:, None, :28, :28]], probabilities=none)
        look, hidden, logits, _ = self.first_look(features, regions)
        answer = F.interpolate(look.masks, (112, 112), mode="bilinear")
        rows = self._first(regions.sample, self.test_limit)
        uncertain = self.uncertainty(look.pooled[rows], hidden[rows])
        unsure = candidates(uncertain, self.test_thresholds)
        if self.test_cells is not None:
            unsure = most_uncertain(uncertain, unsure, self.test_cells)
        cells = chosen(unsure)
        cells = [all_cells(14, len(rows), rows.device), *cells]
        look = look.of(rows)
        refined = corrected(look, cells, self.encode(look, cells))
        answer = answer.index_copy(0, rows, refined)
        return replace(regions, logits=[logits], probabilities=answer[:, 0])

    def first_look(
        self, features: Sequence[Tensor], regions: Regions
    ) -> tuple[Look, Tensor, Tensor, Tensor]:
        """The coarse masks.

        Returns:
            What was found in all boxes, hidden features (R, C, 14, 14), logits of the region's
            class (R, 1, 28, 28), and semantic features (B, C, h, w) of the finest level.
        """
        level = pyramid_levels(regions.boxes)
        pooled = pool(features, regions.sample, regions.boxes, 14, level=level)
        semantic = self.semantic(features[0])
        pyramid = [features[0] + semantic, *features[1:]]
        hidden = self.convs(pooled)
        given = regions.logits  # of another model, or none
        logits = given[-1] if given else own_class(self.masks(hidden), regions.labels)
        look = Look(regions, level, pyramid, pooled, logits.detach().sigmoid())
        return look, hidden, logits, semantic

    def uncertainty(self, pooled: Tensor, hidden: Tensor) -> Tensor:
        """Probability that a cell is incoherent: (R, 1, 28, 28).

        float32: the smallest threshold is less than half precision can tell from zero.
        """
        return self.uncertain(pooled.detach() + hidden).float().sigmoid()

    def encode(self, look: Look, cells: list[Cells]) -> Tensor:
        """Probability (S,) of every cell, in the order given.

        Args:
            cells: of the grid 14, then of finer ones, each read from a finer level.
        """
        r, pooled_cells, finer = look.regions, cells[0], cells[1:]
        features = [pooled_cells.read(look.pooled)]
        for down, c in enumerate(finer, start=1):
            level = (look.level - down).clamp(min=0)
            features.append(features_at(look.pyramid, r.sample, r.boxes, level, c))
        coarse = [
            c.read(F.interpolate(look.masks, (c.grid, c.grid), mode="bilinear")) for c in cells
        ]
        code = torch.cat([c.code(features[0].shape[1]) for c in cells])
        box = torch.cat([c.box for c in cells])
        return self.encoder(torch.cat(features), torch.cat(coarse), code, box, len(look.masks))

    def _first(self, sample: Tensor, limit: int | None) -> Tensor:
        """Rows of the boxes (R,) that get a second look."""
        rows = torch.arange(len(sample), device=sample.device)
        if limit is None or not self.limit_per_image:
            return rows[:limit]
        earlier = (sample[:, None] == sample).tril(-1).sum(1)  # of the same image
        return rows[earlier < limit]


def _weighted(branch: nn.Sequential) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in branch if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def _doubled(dim: int) -> tuple[nn.Module, nn.Module]:
    """Twice the cells on a side."""
    return nn.ConvTranspose2d(dim, dim, 2, stride=2), nn.ReLU(inplace=True)
