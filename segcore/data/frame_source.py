"""Where the frames of a video come from: a file, a folder of images, or the caller's hands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from segcore.data.images import IMAGE_SUFFIXES, read_image
from segcore.data.problem import Problem, Report
from segcore.data.video_file import read_video, video_info
from segcore.errors import DataError
from segcore.image_file import is_companion
from segcore.structures import Size, VideoFrame
from segcore.user_path import user_path

FRAME_RATE = Fraction(10)  # of folders, as the published demo writes them


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames to be read, again and again.

    Args:
        name: for messages.
        count: of frames; None: not known.
        rate: frames a second.
        read: all frames from a number on; the report hears of those that are left out.
    """

    name: str
    count: int | None
    rate: Fraction
    read: Callable[[int, Report], Iterator[VideoFrame]]

    def frames(
        self, problem: Report, start: int = 0, size: Size | None = None
    ) -> Iterator[VideoFrame]:
        """Frames from number `start` on, all of one size; others are reported and left out.

        Args:
            size: of the first frame of all; None: of the first that is read.
        """
        for frame in self.read(start, problem):
            H, W = frame.image.shape[:2]
            size = size or (H, W)
            if size == (H, W):
                yield frame
                continue
            message = (
                f"{frame.name}: frame {frame.index} is {W} x {H} pixels, those before it are"
                f" {size[1]} x {size[0]}; frames of one video have one size"
            )
            problem(Problem(message=message, path=Path(frame.name), kind="frame size"))


def frame_source(
    given: object, pixels_of: Callable[[object, int], np.ndarray], rate: Fraction | None = None
) -> FrameSource:
    """A video file, a folder of images, an image, or paths and arrays one after the other.

    Args:
        pixels_of: (H, W, 3) uint8 RGB of one of these; DataError for what is none.
        rate: frames a second of what does not say it.
    """
    rate = rate or FRAME_RATE
    if not isinstance(given, str | Path):
        if not isinstance(given, Iterable):
            raise DataError(
                f"a video: got {type(given).__name__}; expected a video file, a folder of images,"
                " or paths and uint8 RGB arrays (H, W, 3) one after the other"
            )
        count = len(given) if isinstance(given, list | tuple | np.ndarray) else None
        return FrameSource("frames", count, rate, _Given(given, pixels_of))
    path = user_path(given)
    if path.is_dir():
        files = frame_files(path)
        return FrameSource(str(path), len(files), rate, _Given(files, _read_image))
    if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".gif":  # which may move
        return FrameSource(str(path), 1, rate, _Given([path], _read_image))
    info = video_info(path)
    return FrameSource(
        str(path), info.count, info.rate, lambda start, problem: read_video(path, problem, start)
    )


def frame_files(folder: Path) -> list[Path]:
    """Its images, frame9 before frame10; DataError where there are none."""
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    files = [p for p in images if p.is_file() and not is_companion(p)]
    if not files:
        inside = sorted(p.name for p in folder.iterdir() if p.is_dir())[:3]
        below = f"; it has folders ({', '.join(inside)} ...), name one of them" if inside else ""
        raise DataError(f"{folder}: has no images, so it is no folder of frames{below}")
    return sorted(files, key=lambda p: _natural(p.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers by their value, between words."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _read_image(file: object, number: int) -> np.ndarray:
    return read_image(Path(str(file)))


@dataclass(frozen=True, slots=True)
class _Given:
    """Frames that are named or held one by one; what cannot be read is left out."""

    items: Iterable[object]
    pixels_of: Callable[[object, int], np.ndarray]

    def __call__(self, start: int, problem: Report) -> Iterator[VideoFrame]:
        for number, item in enumerate(islice(self.items, start, None), start):
            name = str(item) if isinstance(item, str | Path) else f"frame {number}"
            try:
                yield VideoFrame(number, name, self.pixels_of(item, number))
            except DataError as error:
                problem(Problem(message=str(error), path=Path(name), kind="unreadable image"))
