"""Small parts that the mask heads share.

Legend of one-letter names: R regions (boxes), K classes, s cells on a side of a region.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convs(*dims: int) -> list[nn.Module]:
    """3x3 convolutions, each with a ReLU."""
    layers: list[nn.Module] = []
    for i, o in pairwise(dims):
        layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(inplace=True)]
    return layers


def own_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Each region's class of (R, K, s, s), or the only one there is: (R, 1, s, s) float32."""
    labels = labels.clamp(max=logits.shape[1] - 1)
    return logits[torch.arange(len(labels), device=labels.device), labels, None].float()


def mean(values: Tensor) -> Tensor:
    """The mean; zero of no values."""
    return values.sum() / max(values.numel(), 1)


def cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of every logit, in float32."""
    return F.binary_cross_entropy_with_logits(logits.float(), wanted.float(), reduction="none")
