"""Tracks as the servers of YouTube-VIS and OVIS take them: one JSON list with an entry for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segcore import masks
from segcore.data.formats.coco_file import class_of, unknown_category
from segcore.data.parsing.run_lengths import RleCheck
from segcore.data.parsing.values import identity, listing, real, typed, whole
from segcore.errors import DataError
from segcore.predictions.coco_results import check_mask, read_entries
from segcore.structures import Metadata, Record, Rle, Tracks

FORM = "{video_id, category_id, score, segmentations}"


@dataclass(frozen=True, slots=True)
class _Track:
    """One entry, checked."""

    what: str  # it is, for errors
    category: int  # as the file numbers them
    score: float
    masks: list[Rle | None]  # one a frame; None: absent


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPredictions:
    """The tracks in a file, by the ids that it has for videos."""

    path: Path
    videos: dict[int | str, list[_Track]]

    def of(self, record: Record, metadata: Metadata) -> Tracks:
        """Tracks of a video, best first; DataError where they do not fit it or its data set."""
        tracks = sorted(self.videos.get(record.id, []), key=lambda track: -track.score)
        known = class_of(metadata)
        for track in tracks:
            if track.category not in known:
                where = f"{self.path}: {track.what}"
                raise DataError(unknown_category(track.category, where, metadata))
        labels = [known[track.category] for track in tracks]
        return Tracks(
            torch.tensor([track.score for track in tracks], dtype=torch.float64),
            torch.tensor(labels, dtype=torch.int64),
            [self._filled(track, record) for track in tracks],
        )

    def _filled(self, track: _Track, record: Record) -> list[Rle]:
        """A mask for each frame, empty where the object is absent."""
        frames, (H, W) = len(record.frames), record.size
        if len(track.masks) != frames:
            raise DataError(
                f"{self.path}: {track.what} has {len(track.masks)} segmentations, video {record.id}"
                f" has {frames} frames; expected one a frame, null where the object is absent"
            )
        for rle in filter(None, track.masks):
            if tuple(rle["size"]) != record.size:
                raise DataError(
                    f"{self.path}: {track.what} has a mask of size {tuple(rle['size'])}, video"
                    f" {record.id} is {record.size} (height, width); expected the same"
                )
        empty = masks.compress([H * W], (H, W))
        return [empty if rle is None else rle for rle in track.masks]


def read_track_results(path: Path) -> TrackPredictions:
    """A list of {video_id, category_id, score, segmentations: RLE or null a frame}; all checked."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected results.json, the tracks of videos")
    check, videos = RleCheck(path), dict[int | str, list[_Track]]()
    for i, entry in enumerate(read_entries(path, FORM)):
        number, track = _checked(entry, f"entry {i}", path, check)
        videos.setdefault(number, []).append(track)
    check.flush()
    return TrackPredictions(path=path, videos=videos)


def _checked(entry: Any, what: str, path: Path, check: RleCheck) -> tuple[int | str, _Track]:
    if isinstance(entry, dict) and "video_id" not in entry and "image_id" in entry:
        raise DataError(
            f"{path}: {what} is of an image (image_id); expected tracks of videos: a list of {FORM}"
        )
    return typed(entry, "video_id", identity, what, path), _Track(
        what,
        typed(entry, "category_id", whole, what, path),
        typed(entry, "score", real, what, path),
        [
            None if value is None else check_mask(value, f"frame {t} of {what}", path, check)
            for t, value in enumerate(typed(entry, "segmentations", listing, what, path))
        ],
    )
