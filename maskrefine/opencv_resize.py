"""OpenCV's 8-bit bilinear resize, to the last bit, in torch.

Published patches were resized by it. Its weights have 11 bits, and what lies between its two passes
is cut to 16, so that no interpolation in floating point gives the same grey levels.

Legend of one-letter names: B patches, C channels, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ONE = 1 << 11  # a weight of one


def resize_uint8(images: Tensor, side: int) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, side, side) uint8, as cv2.INTER_LINEAR does it."""
    H, W = images.shape[-2:]
    if H == W == side:
        return images
    # exact, and in float64 also where products of float32 may be rounded to TF32
    wide = (images.double() @ _across(W, side).to(images.device)).int() >> 4  # (B, C, H, side)
    above, below, near, far = (part.to(images.device) for part in _down(H, side))
    total = (wide.index_select(2, above) * near) >> 16
    total += (wide.index_select(2, below) * far) >> 16
    return (total.add_(2) >> 2).to(torch.uint8)


def _across(W: int, side: int) -> Tensor:
    """(W, side) float64 weights of the columns; those beyond the edge are forgotten."""
    first, far = _cells(W, side)
    far[(first < 0) | (first >= W - 1)] = 0
    weights, place = torch.zeros(W, side, dtype=torch.float64), torch.arange(side)
    for i, part in enumerate(_weights(far)):
        weights[torch.from_numpy(first + i).clamp(0, W - 1), place] += part
    return weights


def _down(H: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two rows that each output row reads, (side,) int64, and their weights, (side, 1) int32.

    Unlike columns, rows beyond the edge count as the edge does, which rounds in another way.
    """
    first, far = _cells(H, side)
    above, below = (torch.from_numpy(first + i).clamp(0, H - 1) for i in (0, 1))
    near, behind = (part[:, None] for part in _weights(far))
    return above, below, near, behind


def _cells(length: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each output place the first of the two cells around it, and how far behind that it lies.

    The second is float32, as OpenCV has it: its rounding decides.
    """
    place = ((np.arange(side) + 0.5) * (length / side) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    return first, place - first.astype(np.float32)


def _weights(far: np.ndarray) -> tuple[Tensor, Tensor]:
    """(side,) int32 of the first and the second cell."""
    near, behind = (
        torch.from_numpy(np.rint(part * np.float32(ONE)).astype(np.int32))
        for part in (np.float32(1) - far, far)
    )
    return near, behind
