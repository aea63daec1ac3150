"""Clips: frames of a video drawn as published and transformed alike; stills as clips of copies.

Legend of one-letter names: T frames of a clip, N tracks, K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from segcore.data.images import read_image
from segcore.data.transforms import Example
from segcore.data.views import (
    Transform,
    check_size,
    ids_of,
    mask_in,
    padded_sample,
    test_image,
    whole_box,
)
from segcore.structures import Frame, Record, Sample, Segment, Targets


@dataclass(frozen=True, slots=True)
class Step:
    """A training transform, and for what it draws its random numbers.

    Args:
        drawn_for: "clip": all frames are transformed alike; "video": so are those of a video, while
            each copy of a still has numbers of its own; "frame": each frame has.
    """

    transform: Transform
    drawn_for: Literal["clip", "video", "frame"] = "clip"


class ClipViews:
    """Samples of T frames; a still, or a video of one frame, is a clip of copies of it.

    Args:
        frames: of a training clip: T.
        reach: how far from the reference frame the other ones lie, at most.
        shuffle: whether the frames of a training clip lose their order.
        steps: training transforms, in order.
        min_size: shorter edge at test time; 0: frames as they are.
        max_size: longest edge at test time.
        last_frame_labels: the published fault: an object that is not annotated in a clip's last
            frame is trained as none. None: labels are right; else the label of no object, K.
        mirrored: (K,) the class of each in a mirrored clip, of whose frames all are mirrored or
            none is; None: classes stay what they are.
    """

    def __init__(
        self,
        *,
        frames: int,
        reach: int,
        steps: Sequence[Step],
        min_size: int,
        max_size: int,
        shuffle: bool = False,
        last_frame_labels: int | None = None,
        mirrored: Sequence[int] | None = None,
    ) -> None:
        self.mirrored = mirrored
        self.frames, self.reach, self.shuffle = frames, reach, shuffle
        self.steps, self.last_frame_labels = tuple(steps), last_frame_labels
        self.min_size, self.max_size = min_size, max_size

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A clip with its targets; without `rng` all frames, without targets."""
        if rng is None:
            places = range(len(record.frames))
            return self.test_clip([_read(record, t) for t in places], record)
        places = clip_frames(
            len(record.frames), self.frames, self.reach, shuffle=self.shuffle, rng=rng
        )
        images = {t: _read(record, t) for t in set(places)}
        still = len(record.frames) == 1
        views = transformed([images[t] for t in places], self.steps, rng, still=still)
        targets = clip_targets(
            views,
            [record.frames[t] for t in places],
            record,
            last_frame_labels=self.last_frame_labels,
        )
        if self.mirrored is not None and views[0].mirrored:
            table = torch.tensor([*self.mirrored, len(self.mirrored)])  # no object stays none
            targets.labels = table[targets.labels]
        boxes = [whole_box(record)] * len(views)
        return padded_sample([view.image for view in views], boxes, targets, record)

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """One frame at its test size, as a clip of its own, without targets."""
        return self.test_clip([image], record)

    def test_clip(self, images: Sequence[np.ndarray], record: Record) -> Sample:
        """Frames (H, W, 3) uint8 RGB at their test size, without targets."""
        resized = [test_image(x, min_size=self.min_size, max_size=self.max_size) for x in images]
        return padded_sample(resized, [whole_box(record)] * len(resized), None, record)


def clip_frames(
    length: int, count: int, reach: int, *, rng: np.random.Generator, shuffle: bool = False
) -> list[int]:
    """Which frames of a video are a training clip.

    A reference frame, then the others out of those up to `reach` before and behind it; as
    published one may be drawn twice, so that a clip may be longer than its video.

    Args:
        length: frames of the video.
        count: frames of the clip.
    """
    reference = int(rng.integers(length))
    before = range(max(0, reference - reach), reference)
    behind = range(reference + 1, min(length, reference + reach + 1))
    others = [*before, *behind] or [reference]
    places = sorted([*rng.choice(others, count - 1).tolist(), reference])
    if shuffle:
        rng.shuffle(places)
    return places


def transformed(
    images: Sequence[np.ndarray], steps: Sequence[Step], rng: np.random.Generator, *, still: bool
) -> list[Example]:
    """Frame by frame, step by step, as published; a shared step draws at the first frame alone.

    Args:
        images: T times (H, W, 3) uint8 RGB.
        still: whether they are copies of one image.
    """
    states: dict[int, Any] = {}  # of the generator, before a shared step draws
    views = []
    for image in images:
        view = Example.whole(image)
        for i, step in enumerate(steps):
            shared = step.drawn_for == "clip" or (step.drawn_for == "video" and not still)
            source = rng
            if shared and i in states:
                source = np.random.Generator(type(rng.bit_generator)())
                source.bit_generator.state = states[i]
            elif shared:
                states[i] = rng.bit_generator.state
            view = step.transform(view, source)
        views.append(view)
    return views


def clip_targets(
    views: Sequence[Example],
    frames: Sequence[Frame],
    record: Record,
    *,
    last_frame_labels: int | None = None,
) -> Targets:
    """The tracks that show in a clip, crowds left out, in the order of the file.

    Args:
        views: T windows.
        frames: what each is a window of.
        last_frame_labels: as of ClipViews.
    """
    seen: dict[int, int] = {}  # class by track
    for frame in frames:
        seen |= {track: s.category for track, s in _tracks(frame)}
    rows = {track: row for row, track in enumerate(sorted(seen))}
    H, W = (max(view.image.shape[axis] for view in views) for axis in (0, 1))
    shapes = np.zeros((len(rows), len(views), H, W), bool)
    for t, (view, frame) in enumerate(zip(views, frames, strict=True)):
        h, w = view.image.shape[:2]
        ids = ids_of(frame, record.size)
        ids = None if ids is None else view.read(ids, -1)
        for track, segment in _tracks(frame):  # one mask at the original size at a time
            mask = mask_in(view, segment, frame, record.size, ids)
            shapes[rows[track], t, :h, :w] = mask
    labels = [seen[track] for track in rows]
    if last_frame_labels is not None:
        there = {track for track, _ in _tracks(frames[-1])}
        labels = [seen[track] if track in there else last_frame_labels for track in rows]
    masks = torch.from_numpy(shapes)
    present = masks.flatten(2).any(2)
    shown = present.any(1)  # what is cut away would teach nothing but emptiness
    return Targets(torch.tensor(labels, dtype=torch.int64)[shown], masks[shown], present[shown])


def _tracks(frame: Frame) -> list[tuple[int, Segment]]:
    """Segments that are no crowds, by their track; in a still each is one of its own."""
    return [
        (i if segment.track is None else segment.track, segment)
        for i, segment in enumerate(frame.segments)
        if not segment.crowd
    ]


def _read(record: Record, frame: int) -> np.ndarray:
    image = read_image(record.frames[frame].file)
    check_size(record, image, frame)
    return image
