"""SSD's colour jitter: brightness, contrast, saturation, hue, each half of the time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from segcore.data.transforms import Example


@dataclass(frozen=True, slots=True)
class ColorSSD:
    """Each step is clipped to 0..255 and truncated to uint8, as published.

    Saturation and hue are computed from Pillow's HSV (hue in 256 steps); upstream's opencv has 180.
    """

    brightness: float = 32
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18  # of 180

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        image = example.image
        if rng.random() < 0.5:
            image = _linear(image, 1, rng.uniform(-self.brightness, self.brightness))
        contrast_first = rng.random() < 0.5
        if contrast_first and rng.random() < 0.5:
            image = _linear(image, rng.uniform(*self.contrast), 0)
        if rng.random() < 0.5:
            image = _saturate(image, rng.uniform(*self.saturation))
        if rng.random() < 0.5:
            image = _turn(image, int(rng.integers(-self.hue, self.hue + 1)))
        if not contrast_first and rng.random() < 0.5:
            image = _linear(image, rng.uniform(*self.contrast), 0)
        return replace(example, image=image)


def _linear(image: np.ndarray, scale: float, shift: float) -> np.ndarray:
    table = np.clip(np.arange(256) * scale + shift, 0, 255).astype(np.uint8)
    return table[image]


def _saturate(image: np.ndarray, scale: float) -> np.ndarray:
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 1] = _linear(hsv[..., 1], scale, 0)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _turn(image: np.ndarray, degrees: int) -> np.ndarray:
    """Hue by `degrees` of 180."""
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(round(degrees * 256 / 180) % 256)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
