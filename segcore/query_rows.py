"""Rows of learned queries for another number of queries: fewer are the first, more are copies.

Legend of one-letter names: N learned rows, Q wanted rows, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

SPREAD = 0.01  # of the noise that sets copies apart, beside the learned values' own size


def noise_of_copies(learned: int, wanted: int, dim: int) -> Tensor:
    """(Q, C) noise, 0 for the learned rows; the same in every process, whatever its seed.

    Copies without noise would get equal gradients, and never part.
    """
    same = torch.Generator().manual_seed(0)  # on every rank: their models must be one
    noise = SPREAD * torch.randn(wanted, dim, generator=same)
    noise[:learned] = 0
    return noise


def tile_rows(rows: Tensor, noise: Tensor) -> Tensor:
    """(N, C) repeated in turn to the rows of a noise (Q, C): the first N are bit-equal to `rows`.

    What a network says of a whole multiple of its queries without noise is what it said before,
    copy by copy: in self-attention every key is there as often as every other, so the softmax
    weighs them as it did, and all else works on each query alone. Where some rows have a copy more
    than others, their keys weigh more; with noise all results move by about as much as it is large.
    """
    count, (wanted, _) = len(rows), noise.shape
    size = rows.square().mean().sqrt()  # so that small embeddings are not drowned
    tiled = rows.repeat(-(-wanted // count), 1)[:wanted]
    return torch.cat((tiled[:count], tiled[count:] + size * noise[count:]))
