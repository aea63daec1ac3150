"""Images to look at that need no file."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = (48, 64)  # height, width


def scene(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Something to look at: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def square(x: float, y: float, side: float) -> list[float]:
    """A ring."""
    return [x, y, x + side, y, x + side, y + side, x, y + side]
