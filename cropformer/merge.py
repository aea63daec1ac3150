"""From a sample's views back to one image without overlap.

Legend of one-letter names: Q queries, T views, H W the image's pixels, h w cells of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.structures import Size


@dataclass(frozen=True, slots=True)
class Entities:
    """Who owns each pixel, and how sure we are."""

    owner: Tensor  # (H, W) int64 query, -1: nobody
    areas: Tensor  # (Q,) int64 pixels owned
    quality: Tensor  # (Q,) mean of sigmoid(mask probability) over the owned pixels


def view_probability(
    logits: Tensor, canvas: Size, sizes: list[Size], boxes: list[list[int]], size: Size
) -> Tensor:
    """Mean mask probability over the views that see a pixel: (H, W), for one query.

    Args:
        logits: (T, h, w) at stride 4 of the padded canvas.
        canvas: padded input size.
        sizes: height and width of each view without padding.
        boxes: where each view lies in the image, x0 y0 x1 y1.
    """
    total = logits.new_zeros(size)
    seen = logits.new_zeros(size)
    full = F.interpolate(logits[None], canvas, mode="bilinear")[0]  # (T, H_pad, W_pad)
    for view, (h, w), (x0, y0, x1, y1) in zip(full, sizes, boxes, strict=True):
        part = F.interpolate(view[None, None, :h, :w], (y1 - y0, x1 - x0), mode="bilinear")[0, 0]
        total[y0:y1, x0:x1] += part.sigmoid()
        seen[y0:y1, x0:x1] += 1
    return total / seen


def paint(
    logits: Tensor,
    scores: Tensor,
    canvas: Size,
    sizes: list[Size],
    boxes: list[list[int]],
    size: Size,
) -> Entities:
    """Give every pixel to the best-scored query whose fused probability there is over .5.

    Queries are visited by descending score, so only one image-sized map is held at a time: the
    published painter visits them in ascending order and lets later ones paint over earlier ones.

    Args:
        logits: (Q, T, h, w).
        scores: (Q,) class probability.
    """
    owner = torch.full(size, -1, dtype=torch.long, device=logits.device)
    areas = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    quality = torch.zeros(len(logits), dtype=torch.float32, device=logits.device)
    for query in scores.argsort(descending=True, stable=True).tolist():
        probability = view_probability(logits[query].float(), canvas, sizes, boxes, size)
        mine = (probability > 0.5) & (owner < 0)
        owner.masked_fill_(mine, query)
        areas[query] = mine.sum()
        # the published quality is the sigmoid of what is a probability already; kept
        quality[query] = (probability.sigmoid() * mine).sum() / (areas[query] + 1e-6)
    return Entities(owner, areas, quality)
