"""From a stream of frames to what is in each, a window at a time.

Legend of one-letter names: N segments of a frame, T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from segcore import masks
from segcore.structures import Rle, Tracks, VideoFrame
from segcore.video.linker import Identity, Linker
from segcore.video.windows import windows

WINDOW, OVERLAP = 16, 4  # frames


@dataclass(slots=True)
class TrackedFrame:
    """One frame of a video and what shows in it; an object has the same id in all frames."""

    index: int  # in the video, from 0
    name: str  # file, or the video's
    image: np.ndarray  # (H, W, 3) uint8 RGB
    ids: Tensor  # (N,) int64, from 1
    scores: Tensor  # (N,) float32 of the tracks, as far as they are known
    labels: Tensor  # (N,) int64 contiguous class, the same
    masks: list[Rle]  # N, none of them empty


@dataclass(slots=True)
class Tracking:
    """How a stream becomes tracks.

    Args:
        look: what the model says of frames: the tracks of the clip, or those of each frame.
        clips: `look` takes the frames as a clip.
        window: frames that are looked at together.
        overlap: frames that two windows share, by which their tracks are joined; a clip's alone.
        linker: gives the tracks their ids.
    """

    look: Callable[[Sequence[VideoFrame]], list[Tracks]]
    clips: bool
    window: int = WINDOW
    overlap: int = OVERLAP
    linker: Linker = field(default_factory=Linker)

    def __call__(
        self, frames: Iterable[VideoFrame], done: int = -1
    ) -> Iterator[list[TrackedFrame]]:
        """The frames that each window adds, in order; where windows overlap, the earlier counts.

        Args:
            done: as `windows` has it.
        """
        for window in windows(frames, self.window, self.overlap if self.clips else 0, done):
            seen = window.frames if self.clips else window.frames[-window.new :]
            parts = [seen] if self.clips else [[frame] for frame in seen]
            tracked: list[TrackedFrame] = []
            for tracks, part in zip(self.look(seen), parts, strict=True):
                identities = self.linker.link(tracks, [frame.index for frame in part])
                tracked += frames_of(tracks, identities, part)
            yield tracked[-window.new :]


def frames_of(
    tracks: Tracks, identities: Sequence[Identity | None], frames: Sequence[VideoFrame]
) -> list[TrackedFrame]:
    """T frames, each with what shows in it."""
    known = [
        (one, masks.area(track), track)
        for one, track in zip(identities, tracks.masks, strict=True)
        if one is not None
    ]
    result = []
    for t, frame in enumerate(frames):
        here = [(one, track[t]) for one, area, track in known if area[t]]
        result.append(
            TrackedFrame(
                frame.index,
                frame.name,
                frame.image,
                torch.tensor([one.id for one, _ in here], dtype=torch.int64),
                torch.tensor([one.score for one, _ in here], dtype=torch.float32),
                torch.tensor([one.label for one, _ in here], dtype=torch.int64),
                [rle for _, rle in here],
            )
        )
    return result


def whole_tracks(frames: Iterable[TrackedFrame]) -> Tracks:
    """All frames of a video as tracks, best first; pictures are let go of, masks are not."""
    last: dict[int, tuple[float, int]] = {}  # score and label: the last frame knows most
    shown: list[dict[int, Rle]] = []
    empty = masks.compress([0], (0, 0))
    for frame in frames:
        H, W = frame.image.shape[:2]
        empty = masks.compress([H * W], (H, W))
        ids = frame.ids.tolist()
        pairs = zip(frame.scores.tolist(), frame.labels.tolist(), strict=True)
        last.update(zip(ids, pairs, strict=True))
        shown.append(dict(zip(ids, frame.masks, strict=True)))
    order = sorted(last, key=lambda one: -last[one][0])
    return Tracks(
        torch.tensor([last[one][0] for one in order], dtype=torch.float32),
        torch.tensor([last[one][1] for one in order], dtype=torch.int64),
        [[rles.get(one, empty) for rles in shown] for one in order],
    )
