"""Label images as files: what a stored value, a colour of a palette, a bit stands for.

A program that makes PNGs smaller keeps the picture, not the numbers in it: grey 2 may become
entry 0 of a palette, and the entries of another file stand in another order.

Legend of one-letter names: H W pixels, E entries of a palette.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import DataError
from segcore.image_file import IMAGE_ERRORS, present, reason

LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF")  # as Pillow calls them
FEW_BITS = {"L;2": 85, "L;4": 17}  # Pillow shows greys of 2 and 4 bits as 0..255

Color = tuple[int, ...]

# what this process has seen: a process sees many files of a folder
_entries: dict[Path, dict[int, tuple[Color, Path]]] = {}  # of palettes, by folder
_depths: dict[tuple[Path, str], dict[int, Path]] = {}  # by folder and suffix: bits and a file


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label image as it is stored.

    Args:
        path: where it lies.
        pixels: (H, W) or (H, W, 2+).
        palette: (E, 3) uint8 RGB that (H, W) are the entries of; None: they are values.
        bits: 1, 2 or 4 where a grey value has no more, else 8.
    """

    path: Path
    pixels: np.ndarray
    palette: np.ndarray | None = None
    bits: int = 8


def read_label_file(path: Path) -> LabelFile:
    """A label image; DataError where it cannot be one."""
    path = present(path)
    try:
        with Image.open(path) as image:
            lossy = image.format in LOSSY or (image.format == "WEBP" and _is_lossy_webp(path))
            file = None if lossy else _stored(image, path)
            kind = image.format
    except FileNotFoundError:
        raise DataError(f"{path}: label image not found") from None
    except IMAGE_ERRORS as error:
        raise DataError(f"{path}: cannot be read as a label image {reason(error, path)}") from error
    if file is None:
        raise DataError(
            f"{path}: is a {kind} file, which changes values where classes meet; save label images"
            " as PNG, anew from the program that made them"
        )
    return file


def _stored(image: Image.Image, path: Path) -> LabelFile:
    tiles = getattr(image, "tile", [])  # gone once the pixels are read
    raw = tiles[0][3] if tiles else ""
    shown = FEW_BITS.get(raw if isinstance(raw, str) else raw[0] if raw else "", 1)
    pixels = np.asarray(image)
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return LabelFile(path, pixels, palette)
    bits = 1 if image.mode == "1" else {85: 2, 17: 4}.get(shown, 8)
    return LabelFile(path, pixels // shown if shown > 1 else pixels, bits=bits)


def _is_lossy_webp(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16)[12:] == b"VP8 "


def plain_values(file: LabelFile) -> np.ndarray | None:
    """(H, W) the values of a label image of one channel; None where only colours tell.

    Greys of a palette count, not their places in it. Where the palette shows a few numbers from
    black to white, or in black and white, the numbers themselves count, as bits do.
    """
    pixels = file.pixels
    if file.palette is None:
        if pixels.ndim == 3:
            return _one_channel(file)
        _check_bits(file)
        return pixels
    grey = file.palette[:, 0]
    if not (file.palette == grey[:, None]).all():
        return None
    return pixels if _is_ramp(grey) else grey[np.minimum(pixels, len(grey) - 1)]


def _one_channel(file: LabelFile) -> np.ndarray | None:
    """Of three equal ones, as OpenCV writes them, with or without a solid alpha."""
    pixels = file.pixels
    channels = pixels.shape[2]
    if channels in (2, 4) and (pixels[..., -1] != 255).any():
        raise DataError(
            f"{file.path}: has transparent pixels, whose class nobody knows; save it with one"
            " channel of class numbers"
        )
    first = pixels[..., 0]
    equal = channels == 2 or all((first == pixels[..., i]).all() for i in (1, 2))
    return first if equal else None


def _is_ramp(grey: np.ndarray) -> bool:
    """Whether a palette (E,) only shows its places: black to white, or black and white."""
    filled = np.flatnonzero(grey)
    grey = grey[: filled[-1] + 1] if len(filled) else grey[:1]
    if np.isin(grey, (0, 255)).all():
        return True
    even = np.arange(len(grey)) * (255 / max(1, len(grey) - 1))
    return len(grey) > 1 and bool((np.abs(grey - even) <= 1).all())


def check_palette(file: LabelFile) -> None:
    """DataError where an entry of the palette has another colour in the folder's other files."""
    assert file.palette is not None
    known = _entries.setdefault(file.path.parent, {})
    for entry in np.flatnonzero(np.bincount(file.pixels.ravel())).tolist():
        color = tuple(file.palette[entry].tolist()) if entry < len(file.palette) else ()
        first, other = known.setdefault(entry, (color, file.path))
        if color != first and other != file.path:
            raise DataError(
                f"{file.path}: entry {entry} of its palette has the colour {color}, but {first} in"
                f" {other}, so its numbers are no classes (a program that makes PNGs smaller does"
                " that); save class numbers as grey values, or list the classes' `colors`"
            )


def _check_bits(file: LabelFile) -> None:
    """DataError where files of 1 bit and of 8 lie in a folder: white is 1, or it is 255."""
    if (file.bits != 1 and file.pixels.dtype != np.uint8) or (
        file.bits == 1 and not file.pixels.any()
    ):
        return
    depths = _depths.setdefault((file.path.parent, file.path.suffix), {})
    depths[file.bits] = file.path
    if {1, 8} <= depths.keys():
        raise DataError(
            f"{depths[1]}: has 1 bit a pixel, and {depths[8]} has 8, so nobody knows whether its"
            " white is class 1 or the value 255 (a program that makes PNGs smaller stores both"
            " alike); save all label images with 8 bits"
        )
