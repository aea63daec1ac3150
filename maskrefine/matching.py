"""Which box stands for which object, and which boxes are trained.

Legend of one-letter names: B images, N objects, A anchors or other boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def match(
    overlaps: Tensor, *, low: float, high: float, best: float | None, rematched: bool
) -> tuple[Tensor, Tensor]:
    """(N, A) intersections over union -> (A,) object, (A,) label: 1 it is that, 0 none, -1 neither.

    Args:
        overlaps: negative where a box does not take part; its label is -1.
        low: below it a box is background.
        high: from it on a box is its object.
        best: overlap from which an object keeps its best boxes even if they are below `high`;
            None: it does not.
        rematched: boxes kept so are that object's (the last one's, of several), not that of the
            object which they overlap most.
    """
    N, A = overlaps.shape
    if N == 0:  # overlaps cannot say which boxes take part
        none = torch.zeros(A, dtype=torch.int64, device=overlaps.device)
        return none, none.clone()
    most, index = overlaps.max(0)
    label = torch.full_like(index, -1)
    label[(most >= 0) & (most < low)] = 0
    label[most >= high] = 1
    if best is not None:
        top = overlaps.amax(1, keepdim=True)  # (N, 1)
        kept = (overlaps == top) & (top >= best) & (top > 0)
        label[kept.any(0)] = 1
        if rematched:
            rows = torch.arange(N, device=overlaps.device)[:, None]
            last = torch.where(kept, rows, -1).amax(0)
            index = torch.where(last >= 0, last, index)
    return index, label


def choose(labels: Tensor, number: int, share: float) -> tuple[Tensor, Tensor]:
    """A random choice among labelled boxes, of fixed size, so that no device is waited for.

    Args:
        labels: (B, A) 1 foreground, 0 background, -1 neither.
        number: of boxes an image; background fills up what foreground leaves.
        share: of foreground, at most.

    Returns:
        (B, S) int64 boxes in random order, foreground first; (B, S) bool those that are chosen.
    """
    A = labels.shape[1]
    noise = torch.rand(labels.shape, device=labels.device)
    limits = min(int(number * share), A), min(number, A)
    parts = [noise.where(labels == wanted, -1.0) for wanted in (1, 0)]
    (top, front), (rest, back) = (
        part.topk(k, dim=1) for part, k in zip(parts, limits, strict=True)
    )
    room = number - (top >= 0).sum(1, keepdim=True)
    fits = torch.arange(limits[1], device=labels.device) < room
    return torch.cat((front, back), 1), torch.cat((top >= 0, (rest >= 0) & fits), 1)
