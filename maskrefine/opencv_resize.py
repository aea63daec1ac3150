"""OpenCV's 8-bit bilinear resize, to the last bit, in torch.

Published patches and mmdetection's images were resized by it. Its weights have 11 bits, and what
lies between its two passes is cut to 16, so that no interpolation in floating point gives the same
grey levels.

Legend of one-letter names: B patches, C channels, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ONE = 1 << 11  # a weight of one


def resize_uint8(images: Tensor, height: int, width: int | None = None) -> Tensor:
    """(B, C, H, W) uint8 -> (B, C, height, width) uint8, as cv2.INTER_LINEAR does it.

    Args:
        width: None: as the height.
    """
    H, W = images.shape[-2:]
    width = width or height
    if (height, width) == (H, W):
        return images
    if (2 * height, 2 * width) == (H, W):  # which it takes the mean of four for
        pairs = images.int().unflatten(-1, (-1, 2)).sum(-1).unflatten(-2, (-1, 2)).sum(-2)
        return ((pairs + 2) >> 2).to(torch.uint8)
    left, right, near, far = (part.to(images.device) for part in _across(W, width))
    wide = images.index_select(3, left).int() * near  # (B, C, H, width)
    wide += images.index_select(3, right).int() * far
    wide >>= 4
    above, below, near, far = (part.to(images.device) for part in _down(H, height))
    total = (wide.index_select(2, above) * near) >> 16
    total += (wide.index_select(2, below) * far) >> 16
    return (total.add_(2) >> 2).to(torch.uint8)


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same of one image: (H, W, C) uint8 -> (height, width, C) uint8."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return resize_uint8(planes, height, width)[0].permute(1, 2, 0).numpy()


def _across(W: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two columns that each output column reads, and their weights, all (side,).

    Those beyond the edge are forgotten.
    """
    first, far = _cells(W, side)
    far[(first < 0) | (first >= W - 1)] = 0
    left, right = (torch.from_numpy(first + i).clamp(0, W - 1) for i in (0, 1))
    return left, right, *_weights(far)


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
