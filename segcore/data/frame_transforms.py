"""Training transforms of video beside those of stills: light of each frame, rotation, crops.

Ranges are the published ones; each draws its numbers in detectron2's order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from segcore.data.transforms import Example
from segcore.data.turn import Turn

LEAST, MOST = 0.9, 1.1  # factors of brightness, contrast and saturation
GREY = (0.299, 0.587, 0.114)  # of red, green and blue


def random_brightness(example: Example, rng: np.random.Generator) -> Example:
    """Lighter or darker."""
    return _blended(example, 0.0, rng)


def random_contrast(example: Example, rng: np.random.Generator) -> Example:
    """Away from the mean grey, or towards it."""
    return _blended(example, float(example.image.mean()), rng)


def random_saturation(example: Example, rng: np.random.Generator) -> Example:
    """Away from the grey of each pixel, or towards it."""
    return _blended(example, example.image.dot(GREY)[..., None], rng)


def _blended(example: Example, other: float | np.ndarray, rng: np.random.Generator) -> Example:
    """Truncated to uint8, as published."""
    factor = rng.uniform(LEAST, MOST)
    mixed = (1 - factor) * other + factor * example.image.astype(np.float32)
    return replace(example, image=np.clip(mixed, 0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class RandomRotation:
    """By up to `angle` degrees either way, about a point near the middle; always the last step."""

    angle: float = 15.0
    low: float = 0.4  # where the point lies, as a share of each side
    high: float = 0.6

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        angle = rng.uniform(-self.angle, self.angle)
        x, y = rng.uniform(self.low, self.high), rng.uniform(self.low, self.high)
        h, w = example.image.shape[:2]
        turn = Turn(angle=angle, x=w * x, y=h * y)
        return replace(example, image=turn.image(example.image), turn=turn)


@dataclass(frozen=True, slots=True)
class RandomSizeCrop:
    """A window whose height and width are drawn between two numbers of pixels."""

    low: int
    high: int

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        H, W = example.image.shape[:2]
        h, w = (int(rng.integers(min(edge, self.low), min(edge, self.high) + 1)) for edge in (H, W))
        y, x = int(rng.integers(H - h + 1)), int(rng.integers(W - w + 1))
        return example.crop(y=y, x=x, height=h, width=w)
