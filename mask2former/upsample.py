"""Mask logits at the original size, a band of rows at a time.

Published results come from two bilinear resizes: stride 4 to the padded input, cut, then to the
original size. Both are linear and separable, so any rows of the outcome can be had alone.

Legend of one-letter names: N masks, H W output pixels, h w mask cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.structures import Size


@dataclass(frozen=True, slots=True)
class Upsampler:
    """From (N, h, w) logits to the rows of (N, H, W) ones.

    Args:
        canvas: padded input size.
        inside: input size without padding.
        size: output size.
    """

    canvas: Size
    inside: Size
    size: Size

    def __call__(self, logits: Tensor, low: int = 0, high: int | None = None) -> Tensor:
        """(N, h, w) -> rows low..high-1 of the output, (N, high - low, W)."""
        high = self.size[0] if high is None else high
        if low == 0 and high == self.size[0]:
            full = F.interpolate(logits[:, None], self.canvas, mode="bilinear")
            cut = full[:, :, : self.inside[0], : self.inside[1]]
            if self.inside == self.size:
                return cut[:, 0]
            return F.interpolate(cut, self.size, mode="bilinear")[:, 0]
        rows = self._rows(logits.shape[1], logits.device)[low:high]  # (high - low, h)
        part = (rows @ logits)[:, None]  # (N, 1, high - low, w)
        part = F.interpolate(part, (high - low, self.canvas[1]), mode="bilinear")
        part = part[..., : self.inside[1]]
        return F.interpolate(part, (high - low, self.size[1]), mode="bilinear")[:, 0]

    def _rows(self, h: int, device: torch.device) -> Tensor:
        """(H, h): both resizes of a column, as a matrix."""
        column = torch.eye(h, device=device)[None, None]  # (1, 1, h, h)
        full = F.interpolate(column, (self.canvas[0], h), mode="bilinear")
        cut = full[:, :, : self.inside[0]]
        return F.interpolate(cut, (self.size[0], h), mode="bilinear")[0, 0]

    def bands(self, count: int, budget: int) -> list[tuple[int, int]]:
        """Row ranges such that `count` masks of one band hold at most `budget` values."""
        step = max(1, min(self.size[0], budget // max(1, count * self.size[1])))
        return [(low, min(low + step, self.size[0])) for low in range(0, self.size[0], step)]
