"""Image files: their pixels and their sizes, in folders and in zip files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image

from segcore.data.pixels import rgb_of
from segcore.data.problem import Problem, Report
from segcore.data.zip_files import ZIP_ERRORS, read_zipped, zip_of
from segcore.errors import ConfigError, DataError
from segcore.image_file import CANNOT_READ, IMAGE_ERRORS, LIMIT, present, reason
from segcore.structures import Size
from segcore.user_path import user_path

T = TypeVar("T")

USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
IMAGE_SUFFIXES = (  # those that nothing here reads are named where they are met
    *USUAL_SUFFIXES,
    *(".jfif", ".jpe", ".mpo", ".gif", ".avif", ".jp2", ".j2k", ".jpx"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    *CANNOT_READ,
)
THREADS = 8
ORIENTATION = 0x0112
WHERE = "data sets lie below DETECTRON2_DATASETS (default ./datasets), see datasets/README.md"


def allow_pixels(environment: Mapping[str, str]) -> None:
    """Make Pillow open images as large as the environment says; otherwise 178 megapixels.

    Raises:
        ConfigError: the value is no positive number.
    """
    given = environment.get(LIMIT)
    if not given:
        return
    try:
        megapixels = float(given)
    except ValueError:
        megapixels = 0.0
    if not 0 < megapixels < 1e9:
        raise ConfigError(
            f"{LIMIT} is {given!r}; expected megapixels, such as 400 for 20,000 x 20,000"
        )
    Image.MAX_IMAGE_PIXELS = int(megapixels * 500_000)  # twice as many are an error
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path | str) -> np.ndarray:
    """Any image file as it should be seen: (H, W, 3) uint8 RGB, EXIF orientation applied.

    A path below a zip file (`images.zip/name.jpg`) is read in place.
    """
    path = user_path(path)
    try:
        with opened(path) as source, Image.open(source) as image:
            return rgb_of(image, str(path))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: image not found") from None
    except (*ZIP_ERRORS, *IMAGE_ERRORS) as error:
        raise DataError(f"{path}: cannot be read as an image {reason(error, path)}") from error


def rgb_image(image: Image.Image, name: str) -> np.ndarray:
    """The same pixels from an image of Pillow's, whether it has read its file yet or not.

    Args:
        name: of the image, for errors.
    """
    try:
        return rgb_of(image, name)
    except DataError:
        raise
    except IMAGE_ERRORS as error:
        raise DataError(f"{name}: cannot be read ({error})") from error


def image_sizes(files: list[Path], problem: Report) -> Iterator[Size | None]:
    """(height, width) of each, in order; None where it cannot be read, which is reported."""
    return in_threads(image_size, files, problem)


def in_threads(read: Callable[[Path], T], files: list[Path], problem: Report) -> Iterator[T | None]:
    """What `read` makes of each file, in order; None where it raises DataError.

    File systems answer many questions at a time, and inflating PNGs is work for many cores.

    Args:
        problem: is given the errors, in the thread that iterates.
    """

    def attempt(file: Path) -> T | DataError:
        try:
            return read(file)
        except DataError as error:
            return error

    pool = ThreadPoolExecutor(THREADS)
    try:
        for file, value in zip(files, pool.map(attempt, files), strict=True):
            if isinstance(value, DataError):
                problem(Problem(message=str(value), path=file, kind="unreadable image"))
                yield None
            else:
                yield value
    finally:
        pool.shutdown(cancel_futures=True)  # nobody waits for the rest after an error


def image_size(path: Path) -> Size:
    """(height, width) from the file's head, as the image is to be seen."""
    try:
        with opened(path) as source, Image.open(source) as image:
            width, height = image.size
            turned = _turn(image) >= 5
    except FileNotFoundError:
        raise DataError(f"{path}: image not found; {WHERE}") from None
    except (*ZIP_ERRORS, *IMAGE_ERRORS) as error:
        raise DataError(f"{path}: cannot be read as an image {reason(error, path)}") from None
    return (width, height) if turned else (height, width)


def exif_turn(path: Path) -> int:
    """The EXIF orientation, 1 to 8, that `read_image` undoes; 1: the image is seen as it is."""
    try:
        with opened(path) as source, Image.open(source) as image:
            return _turn(image)
    except FileNotFoundError:
        raise DataError(f"{path}: image not found") from None
    except (*ZIP_ERRORS, *IMAGE_ERRORS) as error:
        raise DataError(f"{path}: cannot be read as an image {reason(error, path)}") from None


def _turn(image: Image.Image) -> int:
    # Pillow decodes a whole PNG to look for a turn behind its pixels, where nobody puts it
    headless = image.format == "PNG" and "exif" not in image.info
    return 1 if headless else image.getexif().get(ORIENTATION, 1)


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, or those of the place in a zip file."""
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        archive = zip_of(path)
        if archive is None:
            return present(path).open("rb")
        return read_zipped(archive, path.relative_to(archive).as_posix())


allow_pixels(os.environ)
