"""Coarse masks made from true ones, where no predictions are at hand to train on.

Legend of one-letter names: H W pixels, h w those of a mask's box.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from maskrefine.patches import tight_box

LOW = 28  # cells on a side of Mask R-CNN's masks
MAX_SHIFT = 8  # pixels that an outline may be off
CORNERS = (6, 24)  # of a coarse polygon
TRIES, MOST_WAYS = 5, 3


def degrade(mask: np.ndarray, rng: np.random.Generator, min_iou: float = 0.5) -> np.ndarray | None:
    """A mask as a model might predict it, (H, W) bool; None where nothing came near enough.

    One to three random ones of WAYS after each other.

    Args:
        min_iou: the result overlaps the true mask more than so much, as predictions that are
            trained on do.
    """
    x0, y0, x1, y1 = tight_box(mask).tolist()
    room = MOST_WAYS * MAX_SHIFT
    part = (slice(max(y0 - room, 0), y1 + room), slice(max(x0 - room, 0), x1 + room))
    truth, names = mask[part], list(WAYS)
    for _ in range(TRIES):
        coarse = truth
        for i in rng.permutation(len(names))[: rng.integers(1, MOST_WAYS + 1)]:
            coarse = WAYS[names[i]](coarse, rng) if coarse.any() else coarse
        union = (coarse | truth).sum()
        if union and (coarse & truth).sum() > min_iou * union:
            whole = np.zeros_like(mask)
            whole[part] = coarse
            return whole
    return None


def _grow(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _spread(mask, int(rng.integers(1, MAX_SHIFT + 1)))


def _shrink(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return ~_spread(~mask, int(rng.integers(1, MAX_SHIFT + 1)))


def _spread(mask: np.ndarray, pixels: int) -> np.ndarray:
    """All that is at most so many pixels away, along rows and columns."""
    wide = torch.from_numpy(mask)[None].float()
    for kernel, padding in (((1, 2 * pixels + 1), (0, pixels)), ((2 * pixels + 1, 1), (pixels, 0))):
        wide = F.max_pool2d(wide, kernel, 1, padding)
    return wide[0].numpy() > 0


def _shift(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The whole mask, some pixels aside; what leaves the image is lost."""
    dy, dx = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2)
    H, W = mask.shape
    moved = np.zeros_like(mask)
    moved[max(dy, 0) : H + min(dy, 0), max(dx, 0) : W + min(dx, 0)] = mask[
        max(-dy, 0) : H + min(-dy, 0), max(-dx, 0) : W + min(-dx, 0)
    ]
    return moved


def _low_resolution(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through 28x28 cells of its box, as a mask head sees an object."""
    y, x = mask.nonzero()
    rows, columns = slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)
    inside = torch.from_numpy(mask[rows, columns])[None, None].float()  # (1, 1, h, w)
    cells = F.interpolate(F.adaptive_avg_pool2d(inside, LOW), inside.shape[-2:], mode="bilinear")
    coarse = np.zeros_like(mask)
    coarse[rows, columns] = cells[0, 0].numpy() >= 0.5
    return coarse


def _polygon(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few corners, each the farthest pixel in its direction from the middle."""
    y, x = mask.nonzero()
    middle_y, middle_x = y.mean(), x.mean()
    distance = np.hypot(y - middle_y, x - middle_x)
    corners = int(rng.integers(*CORNERS))
    turn = (np.arctan2(y - middle_y, x - middle_x) / (2 * np.pi) + rng.random()) % 1
    sector = np.minimum((turn * corners).astype(np.int64), corners - 1)
    order = np.lexsort((distance, sector))
    last = np.flatnonzero(np.diff(sector[order], append=corners))  # the farthest of each sector
    outline = [(float(x[i]), float(y[i])) for i in order[last]]
    if len(outline) < 3:
        return mask
    page = Image.new("1", (mask.shape[1], mask.shape[0]))
    ImageDraw.Draw(page).polygon(outline, fill=1, outline=1)
    return np.array(page, bool)


WAYS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "grow": _grow,
    "shrink": _shrink,
    "shift": _shift,
    "low resolution": _low_resolution,
    "polygon": _polygon,
}
