"""From a sample's views back to one image without overlap; on a CPU in one compiled pass, where
`pip install ./ops` has it.

Legend of one-letter names: Q queries, T views, H W the image's pixels, h w cells of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segcore.nn.mask_rles import has_compiled, stack_taps
from segcore.nn.resize import AxisResize, marked_cells
from segcore.structures import Size

Region = tuple[slice, slice]  # rows, columns of the image


@dataclass(frozen=True, slots=True)
class Entities:
    """Who owns each pixel, and how sure we are."""

    owner: Tensor  # (H, W) int32 query, -1: nobody
    areas: Tensor  # (Q,) int64 pixels owned
    quality: Tensor  # (Q,) mean of sigmoid(mask probability) over the owned pixels


@dataclass(frozen=True, slots=True)
class View:
    """How a view's mask cells become pixels of the image.

    Published masks are resized twice, to the padded input and, cut, to the view's size in the
    image. Both are bilinear, so each axis is one matrix, and any part can be had alone.
    """

    rows: AxisResize  # h -> y1 - y0
    columns: AxisResize  # w -> x1 - x0
    box: tuple[int, int, int, int]  # x0 y0 x1 y1 in the image

    def logits(self, mask: Tensor, rows: slice, columns: slice) -> Tensor:
        """(h, w) -> the part of the image's pixels that lies in the view."""
        x0, y0 = self.box[:2]
        rows = slice(rows.start - y0, rows.stop - y0)
        columns = slice(columns.start - x0, columns.stop - x0)
        return self.rows.weights[:, rows].T @ mask @ self.columns.weights[:, columns]

    def overlap(self, region: Region) -> Region | None:
        """Where a region and the view meet."""
        x0, y0, x1, y1 = self.box
        rows = slice(max(region[0].start, y0), min(region[0].stop, y1))
        columns = slice(max(region[1].start, x0), min(region[1].stop, x1))
        meet = rows.start < rows.stop and columns.start < columns.stop
        return (rows, columns) if meet else None


def make_views(
    cells: Size, canvas: Size, sizes: list[Size], boxes: list[list[int]], like: Tensor
) -> list[View]:
    """One View each.

    Args:
        cells: (h, w) of the masks.
        canvas: padded input size.
        sizes: height and width of each view without padding.
        boxes: where each view lies in the image, x0 y0 x1 y1.
    """
    views = []
    for (height, width), (x0, y0, x1, y1) in zip(sizes, boxes, strict=True):
        rows = AxisResize.of(cells[0], canvas[0], height, y1 - y0, like.device)
        columns = AxisResize.of(cells[1], canvas[1], width, x1 - x0, like.device)
        views.append(View(rows, columns, (x0, y0, x1, y1)))
    return views


def probability(mask: Tensor, views: list[View], region: Region) -> Tensor:
    """Mean mask probability, over the views that see a pixel, of a region: one query's (T, h, w)
    logits -> (rows, columns). A pixel that no view sees has none."""
    top, left = region[0].start, region[1].start
    total = mask.new_zeros(region[0].stop - top, region[1].stop - left)
    seen = torch.zeros_like(total)
    for logits, view in zip(mask, views, strict=True):
        part = view.overlap(region)
        if part is None:
            continue
        rows, columns = part
        place = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        total[place] += view.logits(logits, rows, columns).sigmoid_()
        seen[place] += 1
    return total / seen.clamp(min=1)


def may_be_inside(masks: Tensor, views: list[View]) -> list[Region | None]:
    """Of each query's (Q, T, h, w) logits the smallest box outside of which no view, and so no
    mean of views, exceeds one half."""
    # bilinear values are no larger than the cells that they lie between
    rows, columns = marked_cells(masks)  # (Q, T, h), (Q, T, w)
    boxes: list[Region | None] = []
    for tall, wide in zip(rows, columns, strict=True):
        regions: list[tuple[int, int, int, int]] = []
        for view, on_rows, on_columns in zip(views, tall, wide, strict=True):
            (top, bottom), (left, right) = (
                view.rows.touched(on_rows),
                view.columns.touched(on_columns),
            )
            if top < bottom and left < right:
                x0, y0 = view.box[:2]
                regions.append((top + y0, bottom + y0, left + x0, right + x0))
        boxes.append(_around(regions))
    return boxes


def _around(regions: list[tuple[int, int, int, int]]) -> Region | None:
    if not regions:
        return None
    tops, bottoms, lefts, rights = zip(*regions, strict=True)
    return slice(min(tops), max(bottoms)), slice(min(lefts), max(rights))


def paint(logits: Tensor, scores: Tensor, views: list[View], size: Size) -> Entities:
    """Give every pixel to the best-scored query whose fused probability there is over .5.

    Queries are visited by descending score, and each only where it may be inside: the published
    painter holds all of them at the image's size, visits them in ascending order and lets later
    ones paint over earlier ones.

    Args:
        logits: (Q, T, h, w).
        scores: (Q,) class probability.
    """
    if has_compiled(logits, "paint_entities"):
        return _paint_compiled(logits, scores, views, size)
    owner = torch.full(size, -1, dtype=torch.int32, device=logits.device)
    areas = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    quality = torch.zeros(len(logits), dtype=torch.float32, device=logits.device)
    regions = may_be_inside(logits, views)
    for query in scores.argsort(descending=True, stable=True).tolist():
        region = regions[query]
        if region is None:
            continue
        mean = probability(logits[query], views, region)
        mine = (mean > 0.5) & (owner[region] < 0)
        owner[region].masked_fill_(mine, query)
        areas[query] = mine.sum()
        # the published quality is the sigmoid of what is a probability already; kept
        quality[query] = mean.sigmoid_().mul_(mine).sum() / (areas[query] + 1e-6)
    return Entities(owner, areas, quality)


def _paint_compiled(logits: Tensor, scores: Tensor, views: list[View], size: Size) -> Entities:
    """The same in one pass over the image's columns; sigmoids differ in the last bit."""
    regions = torch.zeros(len(logits), 4, dtype=torch.int64)  # y0 y1 x0 x1
    for i, region in enumerate(may_be_inside(logits, views)):
        if region is not None:
            regions[i] = torch.tensor([x for side in region for x in (side.start, side.stop)])
    down = stack_taps([view.rows for view in views])
    across = stack_taps([view.columns for view in views])
    owner, areas, quality = torch.ops.msda.paint_entities(
        logits.float(),
        scores.argsort(descending=True, stable=True),
        regions,
        torch.tensor([view.box for view in views]),
        *(down.first, down.weights, across.first, across.weights),
        *size,
    )
    areas = areas.sum(0)  # over bands of columns
    quality = (quality.sum(0) / (areas + 1e-6)).float()
    return Entities(owner.T.contiguous(), areas, quality)
