"""Segments that are not nearly the same as a better one.

Legend of one-letter names: Q queries, N segments, T views, h w mask cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segcore.pinned import download, upload

SAME = 0.7  # overlap (IoU of mask cells) above which results of a query and its copies are one


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Of segments of a class that overlap more, the best alone is kept.

    Args:
        overlap: IoU of mask cells.
        copies: that a learned query has, itself too; so many times as many results are looked at.
    """

    overlap: float = SAME
    copies: int = 1


def distinct(
    masks: Tensor, query: Tensor, labels: Tensor | None = None, *, overlap: float = SAME
) -> Tensor:
    """Places, ascending, of segments that overlap no better one of their class that is kept.

    What greedy suppression keeps, in one product of matrices, at the masks' own resolution.

    Args:
        masks: (Q, ..., h, w) logits.
        query: (N,) on the host: whose mask it is, best segment first.
        labels: (N,) on the host; None: all are of one class.
        overlap: IoU above which two are the same.
    """
    unique, place = query.unique(return_inverse=True)
    inside = (masks[upload(unique, masks.device)] > 0).flatten(1).float()
    both = inside @ inside.T
    area = both.diagonal()
    (same,) = download(both > overlap * (area[:, None] + area - both))  # never of empty masks
    same = same[place][:, place].tril(-1)  # (N, N): with one of those before
    if labels is not None:
        same &= labels[:, None] == labels
    kept = torch.ones(len(query), dtype=torch.bool)
    for _ in range(len(query)):  # a few turns: each decides whom those decided before do not
        before, kept = kept, ~(same & kept).any(1)
        if torch.equal(before, kept):
            break
    return kept.nonzero().flatten()
