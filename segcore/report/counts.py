"""Numbers of a page, out of the outcomes of all images.

Legend of one-letter names: K classes, P predicted segments of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from segcore.report.outcome import (
    DUPLICATE,
    EXCUSED,
    INVENTED,
    MISSED,
    OUTLINE,
    RIGHT,
    WRONG_CLASS,
    Outcome,
)

BINS = 10  # of calibration


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """What became of segments at one confidence; each (K,) int64.

    Args:
        annotated: true segments: found + missed + wrong_class + outline.
        invented: predictions where nothing of the kind is.
        duplicates: predictions of what another one has found already.
        taken_for: predictions of this class on a segment of another one.
        poor: predictions too far from their segment's outline.
    """

    annotated: np.ndarray
    found: np.ndarray
    wrong_class: np.ndarray
    outline: np.ndarray
    missed: np.ndarray
    predicted: np.ndarray
    taken_for: np.ndarray
    poor: np.ndarray
    duplicates: np.ndarray
    invented: np.ndarray

    @property
    def recall(self) -> np.ndarray:
        """(K,) share of the annotated that was found; nan where nothing was annotated."""
        return _share(self.found, self.annotated)

    @property
    def precision(self) -> np.ndarray:
        """(K,) share of the predictions that are right; nan where nothing was predicted."""
        return _share(self.found, self.predicted)


FIELDS = tuple(field.name for field in fields(ClassCounts))


def class_counts(outcomes: Sequence[Outcome], num_classes: int) -> ClassCounts:
    """At the confidence from which predictions are drawn."""
    truths, states = _joined([o.truths for o in outcomes]), _joined([o.states() for o in outcomes])
    shown = [o.shown() for o in outcomes]
    labels = _joined([o.labels[s] for o, s in zip(outcomes, shown, strict=True)])
    causes = _joined([o.causes[s] for o, s in zip(outcomes, shown, strict=True)])

    def count(classes: np.ndarray) -> np.ndarray:
        return np.bincount(classes, minlength=num_classes)

    of_truth = [count(truths[states == s]) for s in (RIGHT, WRONG_CLASS, OUTLINE, MISSED)]
    made = [count(labels[causes == c]) for c in (WRONG_CLASS, OUTLINE, DUPLICATE, INVENTED)]
    columns = (count(truths), *of_truth, count(labels), *made)
    return ClassCounts(**dict(zip(FIELDS, columns, strict=True)))


def confusion(outcomes: Sequence[Outcome], num_classes: int) -> np.ndarray:
    """(K + 1, K + 1) segments, truth by prediction; the last row and column: nothing.

    Each true segment counts once: as what found it, else as the surest other class on it, else as
    missed. All other predictions are in the last row.
    """
    K = num_classes
    matrix = np.zeros((K + 1, K + 1), np.int64)
    for o in outcomes:
        seen, best = np.full(len(o.truths), K), np.full(len(o.truths), EXCUSED, np.int8)
        for p in np.flatnonzero(o.shown()).tolist():
            t, cause = o.of[p], o.causes[p]
            if cause in (RIGHT, WRONG_CLASS) and cause < best[t]:
                if best[t] == WRONG_CLASS:
                    matrix[K, seen[t]] += 1
                seen[t], best[t] = o.labels[p], cause
            else:
                matrix[K, o.labels[p]] += 1
        np.add.at(matrix, (o.truths, seen), 1)
    return matrix


@dataclass(frozen=True, slots=True)
class Scored:
    """All predictions that count, the surest first; P values each."""

    labels: np.ndarray
    scores: np.ndarray
    right: np.ndarray


def scored(outcomes: Sequence[Outcome]) -> Scored:
    """Of all images; those of one score in the images' order."""
    counted = [o.causes != EXCUSED for o in outcomes]
    pairs = list(zip(outcomes, counted, strict=True))
    scores = _joined([o.scores[c] for o, c in pairs]).astype(np.float64)
    labels = _joined([o.labels[c] for o, c in pairs])
    right = _joined([o.causes[c] for o, c in pairs]) == RIGHT
    order = np.argsort(-scores, kind="stable")
    return Scored(labels[order], scores[order], right[order])


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision against recall as the confidence sinks, P points."""

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray

    @property
    def area(self) -> float:
        """Average precision at this overlap, by COCO's 101 levels of recall."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        at = np.searchsorted(self.recall, np.linspace(0, 1, 101))
        return float(np.append(best, 0.0)[at].mean())

    def best_confidence(self) -> tuple[float, float]:
        """The score at which F1 is largest, and F1."""
        if not len(self.scores):
            return 0.0, 0.0
        total = np.maximum(self.recall + self.precision, 1e-12)
        f1 = 2 * self.recall * self.precision / total
        f1[:-1][self.scores[:-1] == self.scores[1:]] = -1  # a threshold takes all of one score
        i = int(f1.argmax())
        return float(self.scores[i]), float(f1[i])


def curve(predictions: Scored, annotated: int, label: int | None = None) -> Curve:
    """Of one class, or of all predictions together.

    Args:
        annotated: true segments, at least 1.
    """
    which = slice(None) if label is None else predictions.labels == label
    right = np.cumsum(predictions.right[which])
    return Curve(right / annotated, right / np.arange(1, len(right) + 1), predictions.scores[which])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predictions by score, BINS values each; nan where a bin is empty."""

    counts: np.ndarray
    confidence: np.ndarray  # mean score
    precision: np.ndarray  # share that is right

    def error(self, least: float = 0.0) -> float:
        """How far score and precision lie apart, averaged over predictions (ECE).

        Args:
            least: lower bins do not count.
        """
        apart = np.abs(self.confidence - self.precision)
        counts = np.where(np.arange(BINS) / BINS >= least - 1e-6, self.counts, 0)
        return float(np.nansum(counts * apart) / max(int(counts.sum()), 1))


def calibration(predictions: Scored) -> Calibration:
    """Bins of equal width from 0 to 1; a score on a border belongs to the upper one."""
    bins = np.clip((predictions.scores * BINS + 1e-6).astype(int), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    return Calibration(
        counts,
        _share(np.bincount(bins, predictions.scores, BINS), counts),
        _share(np.bincount(bins, predictions.right, BINS), counts),
    )


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts]) if not parts else np.concatenate(parts)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole
