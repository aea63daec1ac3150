"""A look into a few label images before a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from segcore.data.label_counts import LabelCounts
from segcore.labels import read_png, semantic_map
from segcore.structures import Frame, Metadata, Record

FIRST, MOST = 16, 400  # images that are read; more of them while there is but one class
THREADS = 8  # inflating PNGs is work for many cores


def sample_labels(
    records: Sequence[Record], metadata: Metadata, *, painted: bool = False
) -> LabelCounts | None:
    """Look at some label images, evenly spread, and at more while they show a single class.

    Raises DataError where one is missing, or has a value that is no class.

    Args:
        painted: where there are segments too, which are the targets by themselves.
    """
    frame = records[0].frames[0] if len(records) else None
    if frame is None or (frame.semantic is None and frame.panoptic is None):
        return None
    if frame.segments and not painted:
        return None
    sample = LabelCounts(len(records))
    for part in _parts(len(records)):
        frames = [records[int(i)].frames[0] for i in part]
        with ThreadPoolExecutor(THREADS) as pool:
            for labels in pool.map(partial(semantic_map, metadata=metadata), frames):
                sample.read += 1
                sample.pixels += labels.size
                sample.ignored += int((labels < 0).sum())
                sample.classes.update(np.flatnonzero(np.bincount(labels[labels >= 0])).tolist())
        if len(sample.classes) > 1:
            return sample
    if frame.semantic is not None:
        sample.values = _ignored_values(frame, metadata)
    return sample


def _parts(total: int) -> Iterator[np.ndarray]:
    """Indices, evenly spread: a few, then others."""
    spread = np.unique(np.linspace(0, total - 1, min(total, MOST)).astype(int))
    first = np.unique(np.linspace(0, len(spread) - 1, min(len(spread), FIRST)).astype(int))
    yield spread[first]
    yield np.delete(spread, first)


def _ignored_values(frame: Frame, metadata: Metadata) -> frozenset[int]:
    assert frame.semantic is not None
    raw = read_png(frame.semantic)
    return frozenset(np.unique(raw[semantic_map(frame, metadata) < 0]).tolist())
