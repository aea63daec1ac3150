"""Pixels of any kind of image as the networks see them: RGB of 8 bits.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image, ImageOps

from segcore.errors import DataError

logger = logging.getLogger(__name__)

DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras and microscopes, which all store 16
FEW = 16  # the high byte of the largest value of 12 bits, as readers round it

_warned: set[int] = set()  # depths


def rgb_of(image: Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image as it should be seen, its EXIF orientation applied.

    Greys of more than 8 bits, whole or with a point, keep their full range. How many bits count is
    seen by the largest value; floats are 0 to 1, or 0 to 255.

    Args:
        name: of the image, for errors.

    Raises:
        DataError: nobody knows which of the values are black and white.
    """
    deep = _has_deep_colors(image)
    turned = ImageOps.exif_transpose(image)
    if turned.mode == "F":
        turned = Image.fromarray(_of_floats(np.asarray(turned), name))
    elif turned.mode == "I" or turned.mode.startswith("I;16"):
        turned = Image.fromarray(_of_integers(np.asarray(turned).astype(np.int64), name))
    pixels = np.array(turned.convert("RGB"))
    if deep and 0 < pixels.max(initial=0) <= FEW:
        raise DataError(
            f"{name}: has 16 bits a channel, of which only the low ones are used, so it would be"
            " black; save it with 8 bits a channel"
        )
    return pixels


def _has_deep_colors(image: Image.Image) -> bool:
    """Whether Pillow reads the high half of 16 bits of colours; unknown once it has read them."""
    tiles = getattr(image, "tile", [])
    how = tiles[0][3] if tiles else ""  # "RGB;16B", or a tuple with that, or with 65535
    words = how if isinstance(how, tuple) else (how,)
    deep = any(";16" in str(word) or (isinstance(word, int) and word > 255) for word in words)
    return deep and image.mode in ("RGB", "RGBA", "LA")


def _of_floats(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W) float32 -> uint8."""
    low, high = values.min(initial=0), values.max(initial=0)
    if not (low >= 0 and high <= 255):  # nor a number at all
        raise DataError(
            f"{name}: has float pixels from {low:g} to {high:g}; expected 0 to 1, or 0 to 255;"
            " scale them, or save it with 8 or 16 bits"
        )
    return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)


def _of_integers(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W) int64 -> uint8."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high >= 1 << 16:
        raise DataError(
            f"{name}: has values from {low} to {high}; expected 0 to 65535 at most; scale them, or"
            " save it with 8 or 16 bits"
        )
    bits = next(bits for bits in DEPTHS if high < 1 << bits)
    if bits < DEPTHS[-1] and bits not in _warned:
        _warned.add(bits)
        logger.warning(
            "%s: is stored with 16 bits or more, but has no value above %d; it is taken for %d"
            " bits, and so are others like it (said once); save them with 8 bits to decide it",
            name,
            high,
            bits,
        )
    return (values >> (bits - 8)).astype(np.uint8)
