"""Tracks of whole videos, a window of frames at a time: what evaluation does with long ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from segcore.contracts import Task
from segcore.structures import Batch, Record, Result, Tracks, VideoFrame
from segcore.video.linker import Linker
from segcore.video.stream import Tracking, whole_tracks


@dataclass(frozen=True, slots=True)
class WindowedInference:
    """Results of a batch of videos whose windows were joined; memory grows with the window alone.

    Args:
        device: where the task's model is.
        window: frames in one forward.
        overlap: frames that two windows share.
    """

    task: Task
    device: torch.device
    window: int
    overlap: int

    def __call__(self, batch: Batch) -> list[Result]:
        """One a sample, at its record's size."""
        return [Result(tracks=self._tracks(batch, i)) for i in range(len(batch.records))]

    def _tracks(self, batch: Batch, sample: int) -> Tracks:
        record = batch.records[sample]

        def look(frames: Sequence[VideoFrame]) -> list[Tracks]:
            part = _part(batch, sample, frames[0].index, frames[-1].index + 1)
            (result,) = self.task.postprocess(self.task.infer(part, self.device), part)
            assert result.tracks is not None
            return [result.tracks]

        tracking = Tracking(look, True, self.window, self.overlap, Linker())
        return whole_tracks(frame for part in tracking(_frames(record)) for frame in part)


def _frames(record: Record) -> list[VideoFrame]:
    """Of the record's size, without pixels: those are in the batch."""
    blank = np.broadcast_to(np.uint8(0), (*record.size, 3))
    return [VideoFrame(t, str(f.file), blank) for t, f in enumerate(record.frames)]


def _part(batch: Batch, sample: int, low: int, high: int) -> Batch:
    """Frames low..high-1 of one sample."""
    one, frames = slice(sample, sample + 1), slice(low, high)
    record = batch.records[sample]
    return Batch(
        batch.images[one, frames],
        batch.sizes[one, frames],
        batch.boxes[one, frames],
        records=[replace(record, frames=record.frames[frames])],
    )
