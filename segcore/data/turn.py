"""A rotation about a point: what is left of the image moves, what comes from outside is empty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Counter-clockwise, in an image that keeps its size.

    Args:
        angle: degrees.
        x, y: the point that stays, in pixels; the first pixel's centre is (0.5, 0.5).
    """

    angle: float
    x: float
    y: float

    def points(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) x y of the file's image, where they are now."""
        cos, sin = self._cos_sin()
        x, y = points[:, 0] - self.x, points[:, 1] - self.y
        return np.stack([cos * x + sin * y + self.x, cos * y - sin * x + self.y], axis=1)

    def image(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8, bilinear; black from outside. OpenCV's, which published programs use,
        rounds weights to 1/32 and may differ by a grey level or two."""
        cos, sin = self._cos_sin()
        back = (
            *(cos, -sin, self.x - cos * self.x + sin * self.y),
            *(sin, cos, self.y - sin * self.x - cos * self.y),
        )
        size, bilinear = (image.shape[1], image.shape[0]), Image.Resampling.BILINEAR
        turned = Image.fromarray(image).transform(size, Image.Transform.AFFINE, back, bilinear)
        return np.asarray(turned)

    def nearest(self, values: np.ndarray, fill: int) -> np.ndarray:
        """(H, W) of anything, by the nearest pixel; `fill` from outside."""
        cos, sin = self._cos_sin()
        H, W = values.shape
        y, x = np.ogrid[0.5 : H + 0.5, 0.5 : W + 0.5]
        x, y = x - self.x, y - self.y
        column = np.floor(cos * x - sin * y + self.x).astype(np.int64)
        row = np.floor(sin * x + cos * y + self.y).astype(np.int64)
        inside = (column >= 0) & (column < W) & (row >= 0) & (row < H)
        seen = values[row.clip(0, H - 1), column.clip(0, W - 1)]
        return np.where(inside, seen, np.asarray(fill, values.dtype))

    def _cos_sin(self) -> tuple[float, float]:
        angle = math.radians(self.angle)
        return math.cos(angle), math.sin(angle)
