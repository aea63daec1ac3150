"""A stream of frames, cut into windows that overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from segcore.errors import ConfigError
from segcore.structures import VideoFrame


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive frames, the last `new` of which were in no window before."""

    frames: list[VideoFrame]
    new: int


def windows(
    frames: Iterable[VideoFrame], length: int, overlap: int, done: int = -1
) -> Iterator[Window]:
    """Windows of `length` frames; only a video that is shorter has a shorter one.

    The last one begins earlier, so that it is as long as the others: the model sees there what it
    sees elsewhere. No more than `length` frames are held.

    Args:
        overlap: frames that two windows share, 0 to length - 1.
        done: index of the last frame that earlier windows had, of a stream that begins `length`
            frames before its end, or where the video begins.
    """
    if not 0 <= overlap < length:
        raise ConfigError(
            f"windows of {length} frames that overlap by {overlap}: expected a length of at least"
            " 1 and an overlap of at least 0 that is less"
        )
    held: deque[VideoFrame] = deque(maxlen=length)
    wanted, new = (length if done < 0 else length - overlap), 0
    for frame in frames:
        held.append(frame)
        new += frame.index > done
        if new == wanted:
            yield Window(list(held), new)
            wanted, new = length - overlap, 0
    if new:
        yield Window(list(held), new)
