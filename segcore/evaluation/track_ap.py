"""Precision and recall of tracks by YouTube-VIS's rules: COCO's, with an IoU over space and time.

Legend of one-letter names: N predictions and G true tracks of a video, K classes, T thresholds of
IoU, R levels of recall, A ranges of area, M limits of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = ((0, 1e5**2), (0, 128**2), (128**2, 256**2), (256**2, 1e5**2))  # mean pixels of a frame
LIMITS = (1, 10, 100)  # best-scored predictions of a video and class that count


@dataclass(frozen=True, slots=True)
class TrackPart:
    """What AP needs to know of one video; no masks."""

    labels: np.ndarray  # (N,) class
    scores: np.ndarray  # (N,)
    areas: np.ndarray  # (N,) mean over the frames where it shows
    truth_labels: np.ndarray  # (G,)
    truth_areas: np.ndarray  # (G,)
    crowd: np.ndarray  # (G,) bool
    ious: dict[str, np.ndarray]  # (N, G) by what is compared; 0 where the classes differ


@dataclass(frozen=True, slots=True)
class _Matched:
    """Predictions of one class in one video, best first."""

    scores: np.ndarray  # (N,)
    hit: np.ndarray  # (T, N) bool: it is the prediction of a true track
    ignored: np.ndarray  # (T, N) bool: it counts neither as right nor as wrong
    objects: int  # tracks to be found


def track_tables(
    parts: Sequence[TrackPart], num_classes: int, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R, K, A) with the last limit, and recall (T, K, A, M); -1 without any truth.

    Args:
        kind: of the IoUs.
    """
    shape = (num_classes, len(AREAS))
    precision = np.full((len(THRESHOLDS), len(RECALLS), *shape), -1.0)
    recall = np.full((len(THRESHOLDS), *shape, len(LIMITS)), -1.0)
    for k in range(num_classes):
        present = [p for p in parts if (p.labels == k).any() or (p.truth_labels == k).any()]
        for a, area in enumerate(AREAS):
            matched = [_matched(part, k, kind, area) for part in present]
            objects = sum(each.objects for each in matched)
            if not objects:
                continue
            for m, limit in enumerate(LIMITS):
                curve, recall[:, k, a, m] = _curve(matched, limit, objects)
            precision[:, :, k, a] = curve
    return precision, recall


def _matched(part: TrackPart, k: int, kind: str, area: tuple[float, float]) -> _Matched:
    """Each prediction takes the free track with which its IoU is best, the best-scored one first.

    Tracks out of the range of areas and crowds come last: what takes one is ignored.
    """
    chosen = np.flatnonzero(part.labels == k)
    chosen = chosen[np.argsort(-part.scores[chosen], kind="stable")][: LIMITS[-1]]
    true = np.flatnonzero(part.truth_labels == k)
    aside = part.crowd[true] | _outside(part.truth_areas[true], area)
    ious = part.ious[kind][np.ix_(chosen, true)]
    hit = np.zeros((len(THRESHOLDS), len(chosen)), bool)
    ignored = np.zeros_like(hit)
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(true), bool)
        for n, row in enumerate(ious):  # one takes what the next one may not have
            able = free & (row >= min(threshold, 1 - 1e-10))
            able &= ~aside if (able & ~aside).any() else True
            if not able.any():
                continue
            # of equal ones the last, as published
            g = len(row) - 1 - int(np.where(able, row, -1.0)[::-1].argmax())
            hit[t, n], ignored[t, n] = True, aside[g]
            free[g] = part.crowd[true[g]]
    ignored |= ~hit & _outside(part.areas[chosen], area)
    return _Matched(part.scores[chosen], hit, ignored, int((~aside).sum()))


def _outside(areas: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (areas < limits[0]) | (areas > limits[1])


def _curve(matched: Sequence[_Matched], limit: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision (T, R) and recall (T,) of a class over all videos."""
    scores = np.concatenate([each.scores[:limit] for each in matched])
    order = np.argsort(-scores, kind="stable")
    hit, ignored = (
        np.concatenate([part[:, :limit] for part in parts], axis=1)[:, order]
        for parts in ([each.hit for each in matched], [each.ignored for each in matched])
    )
    right = np.cumsum(hit & ~ignored, axis=1, dtype=np.float64)  # (T, N)
    wrong = np.cumsum(~hit & ~ignored, axis=1, dtype=np.float64)
    precision = right / (right + wrong + np.spacing(1))
    recall = right / objects
    # what is better further on is better here too
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)  # never reached
    places = [np.searchsorted(row, RECALLS, side="left") for row in recall]
    curve = np.stack([row[at] for row, at in zip(best, places, strict=True)])
    return curve, recall[:, -1] if recall.shape[1] else np.zeros(len(recall))
