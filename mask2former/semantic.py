"""Class scores of every pixel, a band of columns at a time, of one look at an image or of several.

Legend of one-letter names: Q queries, K classes, H W output pixels, h w mask cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.nn.resize import AxisResize, Upsampler


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums over queries of class times mask probability; iterating gives (K, columns, H)."""

    at: Callable[[int, int], Tensor]  # output columns low..high-1: (K, high - low, H)
    bands: list[tuple[int, int]]  # ranges of columns that stay within memory

    def __iter__(self) -> Iterator[Tensor]:
        return (self.at(low, high) for low, high in self.bands)


def class_map(versions: Sequence[tuple[Scores, bool]]) -> Tensor:
    """Best class of the summed scores: (H, W) uint8, or int16 for many classes.

    Args:
        versions: scores at one output size, and whether they are of the mirrored image.
    """
    width = versions[0][0].bands[-1][1]
    columns = []
    for low, high in min((scores.bands for scores, _ in versions), key=lambda bands: bands[0][1]):
        total: Tensor | None = None
        for scores, mirrored in versions:
            part = (
                scores.at(width - high, width - low).flip(1) if mirrored else scores.at(low, high)
            )
            total = part if total is None else total.add_(part)
        assert total is not None
        dtype = torch.uint8 if total.shape[0] <= 256 else torch.int16
        columns.append(total.argmax(0).to(dtype))  # (columns, H)
    return torch.cat(columns).T.cpu().contiguous()


def class_scores(probs: Tensor, masks: Tensor, up: Upsampler) -> Scores:
    """Of (Q, K+1) probabilities and (Q, h, w) logits, at the output size."""
    classes = probs[:, :-1].T  # (K, Q)
    columns = up.columns(masks)

    def at(low: int, high: int) -> Tensor:
        inside = columns(low, high).sigmoid_()  # (Q, columns, H)
        return (classes @ inside.flatten(1)).unflatten(1, inside.shape[1:])

    return Scores(at, list(columns.bands(max(classes.shape))))


def late_scores(probs: Tensor, masks: Tensor, up: Upsampler) -> Scores:
    """The same, summed at the input size and resized afterwards."""
    classes = probs[:, :-1].T  # (K, Q)
    columns = Upsampler(up.canvas, up.inside, up.inside, up.pieces).columns(masks)
    (rows, width), (height, out_width) = up.inside, up.size
    across = AxisResize.of(width, width, width, out_width, masks.device)

    def at(low: int, high: int) -> Tensor:
        inside = columns(*across.reads(low, high)).sigmoid_()  # (Q, input columns, input rows)
        scores = (classes @ inside.flatten(1)).unflatten(1, inside.shape[1:])
        return across(F.interpolate(scores, height, mode="linear"), low, high)

    column = max(classes.shape) * max(rows, height)
    return Scores(at, list(across.bands(column, up.pieces_on(masks.device))))
