"""The segments of an image as masks of their own, however its files tell them; and painted again.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, PngId, Record, Segment


def with_masks(record: Record, metadata: Metadata) -> Record:
    """The same record, its segments RLEs or polygons; each class of a label image becomes one.

    A panoptic PNG and a label image are read; `Frame.semantic` stays where it is beside segments.

    Raises:
        DataError: one of them cannot be read.
    """
    frame = record.frames[0]
    if not frame.segments and frame.semantic is not None:
        labels = semantic_map(frame, metadata)
        _check_size(labels, record, frame.semantic)
        classes = [k for k in np.unique(labels).tolist() if k >= 0]
        rles = masks.encode_ids(labels, classes)
        segments = tuple(Segment(k, rle) for k, rle in zip(classes, rles, strict=True))
        return replace(record, frames=(replace(frame, segments=segments),))
    numbers = [s.shape.id for s in frame.segments if isinstance(s.shape, PngId)]
    if not numbers:
        return record
    ids = frame_ids(frame)
    _check_size(ids, record, frame.panoptic)
    rles = dict(zip(numbers, masks.encode_ids(ids, numbers), strict=True))
    segments = tuple(
        replace(s, shape=rles[s.shape.id]) if isinstance(s.shape, PngId) else s
        for s in frame.segments
    )
    return replace(record, frames=(replace(frame, segments=segments, panoptic=None),))


def _check_size(pixels: np.ndarray, record: Record, file: Path | None) -> None:
    if pixels.shape != record.size:
        raise DataError(f"{file}: is {pixels.shape} (height, width); its image is {record.size}")


def painted(record: Record, lost: Counter[str]) -> np.ndarray:
    """(H, W) int32: which segment is uppermost, counted from 1; 0 where there is none.

    Small ones lie above large ones, and crowds below all.

    Args:
        record: as `with_masks` makes it.
        lost: counts the segments of which something is hidden.
    """
    frame = record.frames[0]
    rles = [to_rle(segment, frame, record.size) for segment in frame.segments]
    areas = masks.area(rles).tolist()
    order = sorted(range(len(rles)), key=lambda i: (not frame.segments[i].crowd, -areas[i]))
    ids = np.zeros(record.size, np.int32)
    for i in order:
        ids[masks.decode(rles[i])] = i + 1
    left = np.bincount(ids.ravel(), minlength=len(rles) + 1)[1:].tolist()
    if hidden := sum(now < before for now, before in zip(left, areas, strict=True)):
        lost["segments partly or wholly under others"] += hidden
    return ids


def label_image(record: Record, metadata: Metadata, lost: Counter[str]) -> np.ndarray:
    """(H, W) int32 class of every pixel, -1 where nothing is annotated.

    Args:
        record: as `with_masks` makes it; its label image counts, where it has one.
        lost: counts the segments that are hidden.
    """
    frame = record.frames[0]
    if frame.semantic is not None:
        return semantic_map(frame, metadata)
    classes = np.array([-1, *(segment.category for segment in frame.segments)], np.int32)
    return classes[painted(record, lost)]


def without_crowds(frame: Frame, lost: Counter[str]) -> tuple[Segment, ...]:
    """Segments of a frame for a format that would take a crowd for an object."""
    kept = tuple(segment for segment in frame.segments if not segment.crowd)
    if crowds := len(frame.segments) - len(kept):
        lost["crowd regions, left out"] += crowds
    return kept
