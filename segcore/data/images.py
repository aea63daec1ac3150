"""Image files: their pixels, their sizes, and the one door into zip files."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from PIL import Image, ImageOps

from segcore.data.problem import Problem, Report
from segcore.errors import DataError
from segcore.structures import Size

T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
THREADS = 8
# what a damaged, encrypted or unusually packed archive makes zipfile raise
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
ORIENTATION = 0x0112
WHERE = "data sets lie below DETECTRON2_DATASETS (default ./datasets), see datasets/README.md"


def read_image(path: Path | str) -> np.ndarray:
    """Any image file as it should be seen: (H, W, 3) uint8 RGB, EXIF orientation applied.

    A path below a zip file (`images.zip/name.jpg`) is read in place.
    """
    path = Path(path)
    try:
        source = path if path.is_file() else _from_zip(path)
        with Image.open(source) as image:
            turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I;16") or turned.mode == "I":  # 16 bits a pixel
                high = np.asarray(turned, dtype=np.int64) >> 8
                turned = Image.fromarray(high.clip(0, 255).astype(np.uint8))
            return np.array(turned.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: image not found") from None
    except (*ZIP_ERRORS, *IMAGE_ERRORS) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error}); replace it or take it out of the list"
        ) from error


def _from_zip(path: Path) -> io.BytesIO:
    for parent in path.parents:
        if parent.suffix == ".zip" and parent.is_file():
            try:
                return io.BytesIO(_archive(parent).read(path.relative_to(parent).as_posix()))
            except KeyError:
                raise DataError(f"{parent}: has no {path.relative_to(parent)}") from None
    raise FileNotFoundError(path)


@lru_cache(maxsize=8)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def zip_of(path: Path) -> Path | None:
    """The zip file that a path leads into."""
    return next((p for p in (path, *path.parents) if p.suffix == ".zip" and p.is_file()), None)


def zip_names(archive: Path) -> list[str]:
    """All that a zip file holds."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: cannot be read as a zip file ({error})") from None


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
        with _opened(path) as source, Image.open(source) as image:
            width, height = image.size
            # Pillow decodes a whole PNG to look for a turn behind its pixels, where nobody puts it
            headless = image.format == "PNG" and "exif" not in image.info
            turned = not headless and image.getexif().get(ORIENTATION, 1) >= 5
    except (FileNotFoundError, KeyError):
        raise DataError(f"{path}: image not found; {WHERE}") from None
    except (*ZIP_ERRORS, *IMAGE_ERRORS) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from None
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    archive = None if path.is_file() else zip_of(path)
    if archive is None:
        with path.open("rb") as file:
            yield file
        return
    name = path.relative_to(archive).as_posix()
    with zipfile.ZipFile(archive) as opened, opened.open(name) as file:
        yield file
