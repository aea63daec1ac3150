"""From masks inside boxes to masks of images, as published: bilinear, at least one half.

Both axes are small matrices. Where a box is small, only its pixels are looked at. On a CPU the
compiled pass of `segcore.nn.mask_rles` does it, where it is installed.

Legend of one-letter names: R regions, s cells on a side of a mask, H W image pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from segcore import masks as mask_io
from segcore.nn.mask_rles import Taps, encode_compiled, has_compiled
from segcore.structures import Rle, Size

BUDGET = 1 << 25  # pixels of the masks that are made together on a device
AXES = 128  # masks whose axes are made together for the compiled pass


@torch.inference_mode()
def paste(
    probabilities: Tensor,
    boxes: Tensor,
    size: Size,
    *,
    threshold: float = 0.5,
    together: int | None = None,
) -> list[Rle]:
    """R masks at the image's size.

    Args:
        probabilities: (R, s, s) inside the boxes.
        boxes: (R, 4) in pixels of the image; a box without area has no pixel.
        size: height and width of the image.
        threshold: one half or more: then no pixel outside a box reaches it.
        together: how many masks are made at a time; None: as suits the device.
    """
    if together is None and has_compiled(probabilities):
        parts = zip(probabilities.split(AXES), boxes.split(AXES), strict=True)
        return [rle for masks, where in parts for rle in _compiled(masks, where, size, threshold)]
    H, W = size
    if together is None:  # alone on a CPU, where boxes are small; elsewhere launches cost more
        together = 1 if probabilities.device.type == "cpu" else max(1, BUDGET // (H * W))
    rles: list[Rle] = []
    for start in range(0, len(boxes), together):
        masks, where = (x[start : start + together] for x in (probabilities, boxes))
        x0, y0, x1, y1 = 0, 0, W, H
        if together == 1:
            low, high = where[0, :2].floor().int() - 1, where[0, 2:].ceil().int() + 1
            (x0, y0), (x1, y1) = low.clamp(min=0).tolist(), high.tolist()
            x1, y1 = max(x0, min(x1, W)), max(y0, min(y1, H))
        across = _axis(where[:, 0], where[:, 2], x0, x1, masks.shape[2])  # (R, columns, s)
        down = _axis(where[:, 1], where[:, 3], y0, y1, masks.shape[1])  # (R, rows, s)
        # columns first: the layout that RLE wants, without a copy
        inside = across @ (masks.float().mT @ down.mT) >= threshold  # (R, columns, rows)
        whole = torch.zeros(len(masks), W, H, dtype=torch.bool, device=masks.device)
        whole[:, x0:x1, y0:y1] = inside
        rles += mask_io.encode(whole.cpu().numpy().transpose(0, 2, 1))
    return rles


def _axis(low: Tensor, high: Tensor, first: int, last: int, cells: int) -> Tensor:
    """(R, pixels, cells) share of each cell in each of the pixels first..last; 0 outside."""
    place = _places(low, high, first, last, cells)
    return (1 - (place[..., None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)


def _places(low: Tensor, high: Tensor, first: int, last: int, cells: int) -> Tensor:
    """(R, pixels) where the pixels first..last lie, in cells from the first one's centre."""
    pixels = torch.arange(first, last, device=low.device) + 0.5
    turn = (pixels - low[:, None]) / (high - low)[:, None] * 2 - 1  # -1..1 inside the box
    return ((turn + 1) * cells - 1) / 2


def _compiled(masks: Tensor, boxes: Tensor, size: Size, threshold: float) -> list[Rle]:
    down = _taps(boxes[:, 1], boxes[:, 3], size[0], masks.shape[1])
    across = _taps(boxes[:, 0], boxes[:, 2], size[1], masks.shape[2])
    # what is not above the next smaller number is below the threshold
    below = float(np.nextafter(np.float32(threshold), np.float32(0)))
    return encode_compiled(masks, down, across, below, score=False)[0]


def _taps(low: Tensor, high: Tensor, length: int, cells: int) -> Taps:
    """`_axis` of a whole side, without the cells that have no share."""
    place = _places(low, high, 0, length, cells).nan_to_num(-2)  # a box without area: outside
    count = min(2, cells)
    first = place.floor().clamp(0, cells - count)  # (R, length)
    share = 1 - (place[:, None] - first[:, None] - torch.arange(count)[:, None]).abs()
    return Taps(first.int(), share.clamp(min=0).float())
