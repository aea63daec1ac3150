"""Every pixel of every image, read as training reads it, by all cores.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from segcore.data.images import exif_turn, read_image
from segcore.errors import DataError
from segcore.structures import Size

PART = 16  # files that a process is given at a time
SIDE = 32  # of the grey image that is hashed
LOW = 8  # frequencies of each axis that count
THUMB = 16  # side of what near duplicates are held against each other by

Watch = Callable[[Iterable["Look"], int], Iterable["Look"]]


@dataclass(frozen=True, slots=True)
class Look:
    """What is left of an image after all of it has been read.

    Args:
        fault: why it cannot be read; "": it can.
        size: as it is seen.
        turn: its EXIF orientation; 1: as it is stored.
        digest: of its pixels, equal for equal images.
        bits: 64, alike for images that look alike.
        thumb: grey, THUMB x THUMB; empty where the image is of one colour.
    """

    fault: str = ""
    size: Size = (0, 0)
    turn: int = 1
    digest: bytes = b""
    bits: int = 0
    thumb: bytes = b""


def look_at(path: Path) -> Look:
    """Read one image to its end."""
    try:
        image, turn = read_image(path), exif_turn(path)
    except DataError as fault:
        return Look(str(fault))
    digest = blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    grey = Image.fromarray(image).convert("L")
    thumb = np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX))
    return Look(
        "",
        (image.shape[0], image.shape[1]),
        turn,
        digest.digest(),
        looks_like(grey),
        thumb.tobytes() if thumb.std() >= 1 else b"",
    )


def looks_like(grey: Image.Image) -> int:
    """64 bits: which of the lowest frequencies of a grey image are above their median (pHash)."""
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    low = np.asarray(dctn(small))[:LOW, :LOW].ravel()
    low[0] = 0  # brightness
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def look_at_all(paths: Sequence[Path], watch: Watch) -> list[Look]:
    """Of every file, in order.

    Args:
        watch: shows the progress; is given the looks and their number.
    """
    parts = [paths[i : i + PART] for i in range(0, len(paths), PART)]
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        with ProcessPoolExecutor(_cores(), mp_context=context) as pool:
            made = pool.map(_looks, parts)  # starts the processes before a progress bar its thread
            return list(watch((look for part in made for look in part), len(paths)))
    except BrokenProcessPool:
        raise DataError(
            "a process that reads images was ended from outside; it may have used too much memory"
        ) from None


def _looks(paths: Sequence[Path]) -> list[Look]:
    return [look_at(path) for path in paths]


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
