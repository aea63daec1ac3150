"""Windows on the boundary of a mask: where they lie, what is in them, and the way back.

Section 3.2 of BPR (arXiv 2104.05239), with the program's rules: windows are centred on boundary
pixels, thinned out by non-maximum suppression, and those that leave the image are moved back.

Legend of one-letter names: P patches, s side of a patch, H W pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from maskrefine.regions import nms
from segcore.structures import Size

PATCH_SIZE = 64  # pixels of the image, for both published networks


def boundary_strength(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool -> (H, W) uint8: 4 where a 3x3 window is half inside, 0 where all or nothing.

    The published value is this, divided by 4.5. Beyond the image there is no mask: its border is a
    boundary.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    inside = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return np.minimum(inside, 9 - inside)


def boundary_boxes(
    mask: np.ndarray,
    *,
    iou_threshold: float,
    size: int = PATCH_SIZE,
    corner: tuple[int, int] = (0, 0),
    image: Size | None = None,
) -> np.ndarray:
    """(P, 4) int64 windows on a mask's boundary, x0 y0 x1 y1 in the image, strongest first.

    None where the image is no larger than a window.

    Args:
        mask: (h, w) bool, the image or a part of it that has the whole mask in it.
        iou_threshold: windows overlap at most so much; .25 in the paper, .55 for the best results.
        corner: y and x of the part in the image.
        image: height and width of the image, where `mask` is a part.
    """
    H, W = image or mask.shape
    if min(H, W) <= size:
        return np.zeros((0, 4), np.int64)
    strength = boundary_strength(mask)
    y, x = np.nonzero(strength)  # row by row: the order of equal scores
    scores = torch.from_numpy(strength[y, x]).float()
    y, x = y + corner[0], x + corner[1]
    half = size // 2
    boxes = np.stack((x - half, y - half, x - half + size, y - half + size), 1)
    boxes = boxes[nms(torch.from_numpy(boxes).float(), scores, iou_threshold).numpy()]
    first = [_moved(boxes[:, i], length, size) for i, length in ((0, W), (1, H))]
    return np.stack((*first, *(start + size for start in first)), 1)


def _moved(start: np.ndarray, length: int, size: int) -> np.ndarray:
    """(P,) where windows begin, inside an axis of the image.

    The published program leaves out the last pixel when it moves a window back; kept.
    """
    return np.where(start + size >= length, length - size - 1, np.maximum(start, 0))


def tight_box(mask: np.ndarray) -> np.ndarray:
    """(4,) int64 box around a mask (H, W) bool, zeros where it is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4, np.int64)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@dataclass(slots=True)
class PatchedMask:
    """A mask, in the part of the image that its patches cover, and what is known of it anew.

    Args:
        number: which one of the image's masks.
        corner: y and x of the part in the image.
        pixels: (h, w) bool
        boxes: (P, 4) int64 in the image.
    """

    number: int
    corner: tuple[int, int]
    pixels: np.ndarray
    boxes: np.ndarray
    _sum: np.ndarray | None = field(default=None, repr=False)  # (h, w) of probabilities
    _count: np.ndarray | None = field(default=None, repr=False)  # (h, w) patches that saw a pixel

    @classmethod
    def of(
        cls,
        mask: np.ndarray,
        *,
        iou_threshold: float,
        size: int = PATCH_SIZE,
        number: int = 0,
        box: np.ndarray | None = None,
    ) -> PatchedMask:
        """Find the patches of a mask.

        Args:
            mask: (H, W) bool
            box: (4,) tight around the mask, where it is known.
        """
        H, W = mask.shape
        x0, y0, x1, y1 = (int(edge) for edge in (tight_box(mask) if box is None else box))
        x0, y0, x1, y1 = max(x0 - 1, 0), max(y0 - 1, 0), min(x1 + 1, W), min(y1 + 1, H)
        boxes = boundary_boxes(
            np.ascontiguousarray(mask[y0:y1, x0:x1]),
            iou_threshold=iou_threshold,
            size=size,
            corner=(y0, x0),
            image=(H, W),
        )
        around = np.concatenate((boxes, [[x0, y0, x1, y1]]))
        (x0, y0), (x1, y1) = around[:, :2].min(0).tolist(), around[:, 2:].max(0).tolist()
        return cls(number, (y0, x0), np.ascontiguousarray(mask[y0:y1, x0:x1]), boxes)

    def patch(self, index: int) -> np.ndarray:
        """(s, s) bool"""
        return self.pixels[self._window(index)]

    def patches(self) -> np.ndarray:
        """(P, s, s) bool"""
        none = np.zeros((0, 0, 0), bool)
        return (
            np.stack([self.patch(i) for i in range(len(self.boxes))]) if len(self.boxes) else none
        )

    def add(self, index: int, probabilities: np.ndarray) -> None:
        """Of patch `index` the probabilities (s, s) that its pixels are inside."""
        if self._sum is None or self._count is None:
            self._sum = np.zeros(self.pixels.shape, np.float32)
            self._count = np.zeros(self.pixels.shape, np.uint16)
        window = self._window(index)
        self._sum[window] += probabilities
        self._count[window] += 1

    def _window(self, index: int) -> tuple[slice, slice]:
        """Where a box lies in the part."""
        (y, x), (x0, y0, x1, y1) = self.corner, self.boxes[index].tolist()
        return slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)

    def stitched(self) -> np.ndarray:
        """(h, w) bool: over one half on average where there were patches, elsewhere as before."""
        if self._sum is None or self._count is None:
            return self.pixels
        seen = self._count > 0
        return np.where(seen, self._sum > np.float32(0.5) * self._count, self.pixels)

    def paste(self, page: np.ndarray) -> tuple[slice, slice]:
        """Write the stitched mask into (H, W) bool; where it was written."""
        (y, x), (h, w) = self.corner, self.pixels.shape
        part = (slice(y, y + h), slice(x, x + w))
        page[part] = self.stitched()
        return part
