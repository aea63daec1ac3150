"""Images as Python code hands them over: paths, arrays, pictures of PIL.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segcore.data.images import read_image, rgb_image
from segcore.errors import DataError

ImageLike = str | Path | np.ndarray | Image.Image


def listed(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One image is a list of one."""
    if isinstance(images, str | Path | np.ndarray | Image.Image):
        return [images]
    if isinstance(images, torch.Tensor) or not isinstance(images, Iterable):
        raise _refusal(images, 0)
    return list(images)


def pixels_of(image: object, number: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file, an array or an image of PIL; DataError for what is none."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return rgb_image(image, f"image {number}")
    if not isinstance(image, np.ndarray):
        raise _refusal(image, number)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"image {number}: got {image.dtype} of shape {image.shape}; expected a uint8"
            " RGB array (H, W, 3) with pixels; BGR images of OpenCV need image[..., ::-1]"
        )
    return image


def _refusal(image: object, number: int) -> DataError:
    advice = "; a tensor (3, H, W) of 0..255 needs .permute(1, 2, 0).byte().cpu().numpy()"
    return DataError(
        f"image {number}: got {type(image).__name__}; expected a path, a uint8 RGB array"
        f" (H, W, 3) or an image of PIL{advice if isinstance(image, torch.Tensor) else ''}"
    )
