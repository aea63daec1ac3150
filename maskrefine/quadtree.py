"""Cells of a box's mask that are worth a second look: choosing, reading and writing them.

A box has grids of 14, 28, 56 and 112 cells on a side, each cell four of the next grid
(Mask Transfiner, section 3.2).
Legend of one-letter names: R boxes, S cells chosen in all boxes, g cells on a side of a grid,
C channels, h w feature cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.regions import STRIDES, pool
from segcore.nn.layers import sine_code
from segcore.structures import Regions

GRIDS = (28, 56, 112)
MARGIN = 5e-4  # of a feature cell, far above rounding


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of one grid."""

    grid: int  # g
    box: Tensor  # (S,) int64 which box
    cell: Tensor  # (S,) int64 row * g + column

    def code(self, dim: int) -> Tensor:
        """Sine position code within the box: (S, dim)."""
        code = sine_code(self.grid, dim // 2, self.cell.device)
        return torch.cat((code[self.cell // self.grid], code[self.cell % self.grid]), dim=1)

    def read(self, maps: Tensor) -> Tensor:
        """(R, 1, g, g) or (R, C, g, g) -> (S,) or (S, C) what is there."""
        values = maps.flatten(2)[self.box, :, self.cell]
        return values[:, 0] if maps.shape[1] == 1 else values

    def write(self, maps: Tensor, values: Tensor) -> Tensor:
        """Maps (R, 1, g, g) with other values (S,) in these cells."""
        flat = maps.flatten(1).index_put((self.box, self.cell), values.to(maps))
        return flat.view_as(maps)


@dataclass(frozen=True, slots=True)
class Look:
    """What a first look finds in boxes, for the second one."""

    regions: Regions  # n
    level: Tensor  # (n,) of the pyramid
    pyramid: Sequence[Tensor]  # features, the finest with the semantic ones added
    pooled: Tensor  # (n, C, 14, 14)
    masks: Tensor  # (n, 1, 28, 28) coarse probabilities

    def of(self, rows: Tensor) -> Look:
        """The same for some of the boxes."""
        r = self.regions
        regions = Regions(r.sample[rows], r.boxes[rows], r.labels[rows])
        level, pooled, masks = self.level[rows], self.pooled[rows], self.masks[rows]
        return Look(regions, level, self.pyramid, pooled, masks)


def all_cells(grid: int, boxes: int, device: torch.device) -> Cells:
    """Every cell of every box; cell by cell, box by box within."""
    cell = torch.arange(grid * grid, device=device)[:, None].expand(-1, boxes)
    box = torch.arange(boxes, device=device).expand(grid * grid, boxes)
    return Cells(grid, box.flatten(), cell.flatten())


def candidates(uncertainty: Tensor, thresholds: Sequence[float]) -> list[Tensor]:
    """Cells whose uncertainty, spread to their children, reaches the grid's threshold.

    Args:
        uncertainty: (R, 1, 28, 28) in 0..1.
        thresholds: of the grids 28, 56 and 112.

    Returns:
        Three (R, g, g) bool.
    """
    return [
        F.interpolate(uncertainty, (grid, grid))[:, 0] >= threshold
        for grid, threshold in zip(GRIDS, thresholds, strict=True)
    ]


def most_uncertain(uncertainty: Tensor, masks: Sequence[Tensor], count: int) -> list[Tensor]:
    """Of each box's candidates in each grid those whose uncertainty is highest.

    Args:
        uncertainty, masks: as `candidates` takes and returns them.
        count: cells of a box in a grid, at most.
    """
    kept = []
    for mask in masks:
        grid = mask.shape[-1]
        unsure = F.interpolate(uncertainty, (grid, grid))[:, 0].masked_fill(~mask, -1).flatten(1)
        top = unsure.topk(min(count, grid * grid), sorted=False).indices  # (R, count)
        kept.append(torch.zeros_like(mask.flatten(1)).scatter(1, top, True).view_as(mask) & mask)
    return kept


def chosen(masks: Sequence[Tensor]) -> list[Cells]:
    """All candidates; box by box, row by row within."""
    out = []
    for mask in masks:
        box, cell = mask.flatten(1).nonzero(as_tuple=True)
        out.append(Cells(mask.shape[-1], box, cell))
    return out


def draw(counts: Sequence[Sequence[int]], samples: int) -> Tensor:
    """Which of its candidates each box takes in each grid: (boxes, grids, samples), on the CPU.

    A permutation is drawn for each box and grid in turn, as published, so that a seed gives the
    published draws; one that is too short is repeated.
    """
    out = torch.empty(len(counts), len(GRIDS), samples, dtype=torch.long)
    for row, box in zip(out, counts, strict=True):
        for picks, count in zip(row, box, strict=True):
            order = torch.randperm(count)
            picks[:] = order.repeat(-(-samples // count))[:samples]
    return out


def drawn(masks: Sequence[Tensor], samples: int, least: int) -> tuple[Tensor, list[Cells]]:
    """As many random candidates in each grid for every box that has enough of them in all grids.

    Args:
        masks: one (R, g, g) bool a grid.
        least: candidates that a box must have in every grid.

    Returns:
        (V,) the rows of these boxes, and their cells with `box` 0..V-1; draw by draw, box by
        box within.
    """
    counts = torch.stack([mask.flatten(1).sum(1) for mask in masks], dim=1)  # (R, grids)
    known = counts.tolist()  # random permutations of these lengths: a wait for the device
    rows = [r for r, box in enumerate(known) if min(box) >= least]
    device = counts.device
    picks = draw([known[r] for r in rows], samples).to(device)  # (V, grids, samples)
    valid = torch.tensor(rows, dtype=torch.long, device=device)
    box = torch.arange(len(rows), device=device).expand(samples, -1).flatten()
    out = []
    for i, mask in enumerate(masks):
        cell = mask.flatten(1).nonzero()[:, 1]
        first = (counts[:, i].cumsum(0) - counts[:, i])[valid]
        taken = cell[first[:, None] + picks[:, i]]  # (V, samples)
        out.append(Cells(mask.shape[-1], box, taken.T.flatten()))
    return valid, out


def features_at(
    features: Sequence[Tensor], sample: Tensor, boxes: Tensor, level: Tensor, cells: Cells
) -> Tensor:
    """What RoIAlign of the whole grid gives in these cells only: (S, C) float32.

    A grid of 112 x 112 x 256 numbers a box is never made.

    Args:
        features: maps (B, C, h, w), fine to coarse.
        sample, boxes, level: (R,), (R, 4), (R,) of all boxes.
    """
    stride = torch.tensor(STRIDES, device=boxes.device)[level, None]  # (R, 1)
    start, end = boxes.split(2, dim=1)  # (R, 2) x y
    side = ((end / stride - 0.5) - (start / stride - 0.5)) / cells.grid  # rounded as RoIAlign does
    # RoIAlign reads as many points a cell as its side rounded up: rounding must not change that
    points = side.ceil().clamp(min=1)
    least = torch.where(points > 1, points - 1 + MARGIN, 0)
    side = torch.minimum(torch.maximum(side, least), points - MARGIN)
    half = (side * stride / 2)[cells.box]
    place = torch.stack((cells.cell % cells.grid, cells.cell // cells.grid), dim=1)  # x y
    centre = start[cells.box] + (place + 0.5) * ((end - start) / cells.grid)[cells.box]
    rois = torch.cat((centre - half, centre + half), dim=1)
    return pool(features, sample[cells.box], rois, 1, level=level[cells.box])[:, :, 0, 0]


def corrected(look: Look, cells: list[Cells], tokens: Tensor) -> Tensor:
    """Coarse probabilities, corrected from grid to grid: (n, 1, 112, 112).

    Args:
        cells: of the grids 14, 28, 56 and 112.
        tokens: (S,) what the encoder says of them.
    """
    _, at28, at56, at112 = cells
    _, new28, new56, new112 = tokens.split([len(c.box) for c in cells])
    fine28 = at28.write(look.masks, new28)
    fine56 = at56.write(_up(fine28, 56), new56)
    # published: an image without cells at 56 goes straight to 112
    sample = look.regions.sample
    stops = torch.zeros(len(look.pyramid[0]), dtype=torch.bool, device=sample.device)
    stops[sample[at56.box]] = True
    coarse = torch.where(stops[sample, None, None, None], _up(fine56, 112), _up(fine28, 112))
    return at112.write(coarse, new112)


def _up(maps: Tensor, size: int) -> Tensor:
    """Corner to corner, as published."""
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=True)
