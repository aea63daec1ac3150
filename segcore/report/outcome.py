"""What became of every prediction and of every true segment of an image, and why.

The causes follow TIDE (Bolya et al., 2020), at one overlap, for masks.

Legend of one-letter names: N true segments, P predicted segments, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore import masks
from segcore.report.compared import Compared

OVERLAP = 0.5  # intersection over union from which a prediction is of a true segment
NEAR = 0.1  # from which it is a poor outline of it, not something invented

RIGHT, WRONG_CLASS, OUTLINE, DUPLICATE, INVENTED, EXCUSED = range(6)  # of predictions
MISSED = 6  # of true segments, beside RIGHT, WRONG_CLASS and OUTLINE


@dataclass(frozen=True, slots=True)
class Kept:
    """The masks of an image that is among the worst."""

    file: Path
    compared: Compared


@dataclass(slots=True, eq=False)
class Outcome:
    """One image, in small numbers.

    Args:
        kept: its masks; None where others are worse.
    """

    name: str
    truths: np.ndarray  # (N,) int32 classes
    labels: np.ndarray  # (P,) int32 classes, best first
    scores: np.ndarray  # (P,) float32
    causes: np.ndarray  # (P,) int8
    of: np.ndarray  # (P,) int32 the true segment that it is of, -1: none
    ious: np.ndarray  # (P,) float32 with that
    confidence: float = 0.0  # score from which predictions count as shown
    kept: Kept | None = None

    def shown(self) -> np.ndarray:
        """(P,) bool: predictions that count as such: confident, and not excused."""
        return (self.scores >= self.confidence) & (self.causes != EXCUSED)

    def states(self) -> np.ndarray:
        """(N,) what became of each true segment: the best that the shown predictions did."""
        state = np.full(len(self.truths), MISSED, np.int8)
        which = self.shown() & (self.causes <= OUTLINE)
        np.minimum.at(state, self.of[which], self.causes[which])
        return state


def outcome_of(compared: Compared, name: str) -> Outcome:
    """Predictions take true segments as COCO has them do: best first, each the closest free one."""
    iou = masks.iou(compared.predicted, compared.truth)  # (P, N)
    truths, labels = np.array(compared.truth_labels, int), np.array(compared.labels, int)
    same = labels[:, None] == truths
    free = np.ones(len(truths), bool)
    causes = np.full(len(labels), INVENTED, np.int8)
    of = np.full(len(labels), -1, np.int32)
    # one after the other, since each takes its segment from those behind it
    for p in range(len(labels) if len(truths) else 0):
        alike, other = iou[p] * same[p], iou[p] * ~same[p]
        left = alike * free
        for overlap, least, cause in (
            (left, OVERLAP, RIGHT),
            (alike, OVERLAP, DUPLICATE),
            (other, OVERLAP, WRONG_CLASS),
            (alike, NEAR, OUTLINE),
        ):
            if overlap.max() >= least:
                causes[p], of[p] = cause, overlap.argmax()
                break
        if causes[p] == RIGHT:
            free[of[p]] = False
    causes[compared.excused & (causes != RIGHT)] = EXCUSED
    ious = np.zeros(len(labels), np.float32)
    ious[of >= 0] = iou[np.flatnonzero(of >= 0), of[of >= 0]]
    scores = np.array(compared.scores, np.float32)
    classes = truths.astype(np.int32), labels.astype(np.int32)
    return Outcome(name, *classes, scores, causes, of, ious, compared.confidence)


def badness(outcome: Outcome) -> dict[int, tuple[float, int]]:
    """By class that has errors in the image: 1 - panoptic quality, number of errors."""
    shown, state = outcome.shown(), outcome.states()
    right = shown & (outcome.causes == RIGHT)
    wrong = outcome.labels[shown & ~right]
    lost = outcome.truths[state != RIGHT]
    bad: dict[int, tuple[float, int]] = {}
    for k in np.union1d(wrong, lost).tolist():
        errors = int((wrong == k).sum() + (lost == k).sum())
        of_class = right & (outcome.labels == k)
        quality = float(outcome.ious[of_class].sum()) / (int(of_class.sum()) + errors / 2)
        bad[k] = 1 - round(quality, 6), errors
    return bad


SURE = 0.8  # score of predictions that may be right where the truth is wrong


def suspicions(outcome: Outcome) -> list[int]:
    """Confident predictions that contradict the truth, the surest first."""
    against = np.isin(outcome.causes, (WRONG_CLASS, INVENTED)) & (outcome.scores >= SURE)
    order = np.argsort(-outcome.scores, kind="stable")
    return [int(p) for p in order if against[p]]
