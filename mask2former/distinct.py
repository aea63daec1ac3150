"""Segments that are not nearly the same as a better one: for queries that have copies.

Legend of one-letter names: Q queries, N segments, T views, h w mask cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segcore.pinned import download, upload

SAME = 0.7  # overlap (IoU of mask cells) from which on two segments of a class are one


def distinct(masks: Tensor, query: Tensor, labels: Tensor | None = None) -> Tensor:
    """Places, ascending, of segments that overlap no better one of their class that is kept.

    What greedy suppression keeps, in one product of matrices, at the masks' own resolution.

    Args:
        masks: (Q, ..., h, w) logits.
        query: (N,) on the host: whose mask it is, best segment first.
        labels: (N,) on the host; None: all are of one class.
    """
    unique, place = query.unique(return_inverse=True)
    inside = (masks[upload(unique, masks.device)] > 0).flatten(1).float()
    both = inside @ inside.T
    area = both.diagonal()
    (same,) = download(both > SAME * (area[:, None] + area - both))  # never of empty masks
    same = same[place][:, place].tril(-1)  # (N, N): with one of those before
    if labels is not None:
        same &= labels[:, None] == labels
    kept = torch.ones(len(query), dtype=torch.bool)
    for _ in range(len(query)):  # a few turns: each decides whom those decided before do not
        before, kept = kept, ~(same & kept).any(1)
        if torch.equal(before, kept):
            break
    return kept.nonzero().flatten()
