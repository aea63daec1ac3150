"""Video files, decoded and encoded: the one door to PyAV, which is an extra.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from segcore.data.problem import Problem, Report
from segcore.errors import ConfigError, DataError
from segcore.structures import VideoFrame

# of each kind of file the format's name and the encoders for it, the best first
H264 = ("libx264", "libopenh264", "mpeg4")
KINDS = {
    ".mp4": ("mp4", H264),
    ".mov": ("mov", H264),
    ".mkv": ("matroska", H264),
    ".webm": ("webm", ("libvpx-vp9",)),
    ".avi": ("avi", ("mpeg4",)),
}
# frames come out in the order in which they went in, so that parts can be joined as they are
OPTIONS = {
    "libx264": {"crf": "20", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {
        "crf": "30",
        "b": "0",
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "deadline": "realtime",
        "cpu-used": "6",
        "row-mt": "1",
    },
}
BITS_A_PIXEL = 0.2  # of the other encoders


def video_library() -> Any:
    """PyAV; ConfigError where it is not installed."""
    try:
        import av
    except ImportError:
        raise ConfigError(
            "video files need PyAV, which is not installed: pip install 'segcore[video]'; folders"
            " of frames are read without it"
        ) from None
    return av


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the head of a video file says."""

    rate: Fraction  # frames a second
    count: int | None  # frames; None: not known


def video_info(path: Path) -> VideoInfo:
    """From the file's head, without decoding; DataError where it is no video."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25).limit_denominator(1001)
        seconds = Fraction(container.duration or 0, 1_000_000)
        return VideoInfo(rate, stream.frames or round(seconds * rate) or None)


def read_video(path: Path, problem: Report, start: int = 0) -> Iterator[VideoFrame]:
    """All frames from number `start` on, turned as they should be seen.

    Args:
        problem: hears of damage, once: what can be decoded is decoded.
    """
    error_type = video_library().error.FFmpegError
    number, broken, end = 0, 0, ""
    with _opened(path) as container:
        stream = container.streams.video[0]
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except error_type as error:
                end = f"; it cannot be read further: {error.strerror}"
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except error_type:
                broken += 1
                continue
            for frame in frames:
                if number >= start:
                    yield VideoFrame(number, str(path), _pixels(frame))
                number += 1
        promised = stream.frames
    if not number:
        raise DataError(f"{path}: none of its frames can be decoded{end}; make the file anew")
    if broken or end or number < promised:
        counted = f"{number} of {promised or 'its'} frames could be decoded"
        message = f"{path}: is damaged or cut short: {counted}, {broken} packets could not{end}"
        problem(Problem(message=message, path=path, kind="damaged video"))


def _opened(path: Path) -> Any:
    library = video_library()
    try:
        container = library.open(str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: video not found") from None
    except library.error.FFmpegError as error:
        raise DataError(
            f"{path}: cannot be opened as a video ({error.strerror}); it may be cut short, or of"
            " another kind; play it to see, or make it anew"
        ) from None
    if not container.streams.video:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        container.close()
        raise DataError(f"{path}: is no video: it holds {kinds}; it may be cut short, make it anew")
    return container


def _pixels(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as a phone's camera says."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def encoder_for(path: Path) -> str:
    """The encoder for a video of this name; ConfigError where there is none."""
    library = video_library()
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: no video can be written under it; expected {', '.join(KINDS)}")
    for name in kind[1]:
        if name in library.codecs_available:
            try:
                return library.codec.Codec(name, "w").name
            except library.error.FFmpegError:  # it can be read, but not written
                continue
    raise ConfigError(
        f"{path}: {path.suffix} needs one of the encoders {', '.join(kind[1])}, and this PyAV has"
        " none of them; name another kind of file, or install PyAV's own wheel"
    )


class VideoWriter:
    """Frames into a file of the MP4 format, whatever it is called; playable once it is closed.

    Args:
        encoder: of `encoder_for`.
        rate: frames a second.
    """

    def __init__(self, path: Path, *, encoder: str, rate: Fraction) -> None:
        self._library = video_library()
        self._container = self._library.open(str(path), "w", format="mp4")
        self._encoder, self._rate = encoder, rate
        self._stream: Any = None
        self.count = 0

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write(self, image: np.ndarray) -> None:
        """One more frame, (H, W, 3) uint8 RGB; all of one size."""
        H, W = image.shape[:2]
        even = np.pad(image, ((0, H % 2), (0, W % 2), (0, 0)), mode="edge")  # encoders halve it
        if self._stream is None:
            self._stream = self._new_stream(even.shape[0], even.shape[1])
        frame = self._library.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = self.count, 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def _new_stream(self, height: int, width: int) -> Any:
        options = OPTIONS.get(self._encoder, {})
        stream = self._container.add_stream(self._encoder, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.max_b_frames = 0
        if not options:
            stream.codec_context.bit_rate = int(BITS_A_PIXEL * width * height * self._rate)
        return stream


def join_videos(parts: Sequence[Path], goal: Path, rate: Fraction) -> None:
    """One video of many that `VideoWriter` made alike, without encoding again; whole or not at all.

    Args:
        goal: its suffix says what kind of file.
    """
    library = video_library()
    temporary = goal.with_name(goal.name + ".tmp")
    kind = KINDS[goal.suffix.lower()][0]
    try:
        with library.open(str(temporary), "w", format=kind) as container:
            stream, number = None, 0
            for part in parts:
                with library.open(str(part)) as source:
                    given = source.streams.video[0]
                    if stream is None:
                        stream = container.add_stream_from_template(given)
                        stream.time_base = 1 / rate  # AVI counts in frames
                        head = given.codec_context.extradata
                    elif given.codec_context.extradata != head:
                        raise DataError(
                            f"{part}: was encoded otherwise than the parts before it, maybe by"
                            " another version of PyAV; begin anew with --overwrite"
                        )
                    number = _copy(source, given, container, stream, number, rate)
        os.replace(temporary, goal)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: Any, given: Any, container: Any, stream: Any, number: int, rate: Fraction) -> int:
    """Packets from one file to another, numbered from `number` on; the number after the last."""
    for packet in source.demux(given):
        if packet.dts is None:
            continue
        packet.stream = stream
        packet.time_base = 1 / rate
        packet.pts = packet.dts = number
        packet.duration = 1
        container.mux(packet)
        number += 1
    return number
