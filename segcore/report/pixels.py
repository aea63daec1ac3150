"""What became of the pixels of a label image, and why; its numbers.

Legend of one-letter names: K classes, M pairs of classes, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter

from segcore import masks
from segcore.errors import DataError
from segcore.labels import semantic_map
from segcore.report.compared import DOUBT
from segcore.structures import Metadata, Record, Result, Rle

BORDER = 0.005  # of the image's diagonal: how far from a true border an error is one of it
CAUSES = (
    ("missed", "missed", "pixels of a class that is seen nowhere in the image"),
    ("wrong class", "wrong class", "other pixels with another class than annotated"),
    ("boundary", "boundary", "wrong pixels so close to a true border (half a percent of the image's"
     " diagonal) that the border alone is off"),
)  # fmt: skip
SURE = 0.8  # share of a class's pixels in an image that are seen as one other class
LARGE = 0.002  # of the image: such a region may be doubted


@dataclass(frozen=True, slots=True)
class KeptMaps:
    """Truth and prediction of an image, a mask a class."""

    file: Path
    truth: list[tuple[int, Rle]]
    predicted: list[tuple[int, Rle]]


@dataclass(slots=True, eq=False)
class PixelOutcome:
    """One image, in small numbers; unannotated pixels are left out.

    Args:
        kept: its maps; None where others are worse.
    """

    name: str
    truths: np.ndarray  # (M,) int32 pairs of classes that occur
    labels: np.ndarray  # (M,) int32
    counts: np.ndarray  # (M,) int64 pixels
    causes: dict[str, int]  # wrong pixels
    kept: KeptMaps | None = None

    def matrix(self, num_classes: int) -> np.ndarray:
        """(K, K) pixels, truth by prediction."""
        matrix = np.zeros((num_classes, num_classes), np.int64)
        matrix[self.truths, self.labels] = self.counts
        return matrix


def pixel_outcome(result: Result, record: Record, metadata: Metadata) -> PixelOutcome:
    """Of one image, with its maps."""
    assert result.semantic is not None
    truth = semantic_map(record.frames[0], metadata)
    predicted = result.semantic.numpy().astype(np.int32)
    file, K = record.frames[0].file, len(metadata.classes)
    if truth.shape != predicted.shape:
        raise DataError(
            f"{file}: labels are {truth.shape}, the prediction is {predicted.shape}; expected the"
            " same height and width"
        )
    known = truth >= 0
    pairs, counts = np.unique(truth[known].astype(np.int64) * K + predicted[known],
                              return_counts=True)  # fmt: skip
    causes = {kind: int(where.sum()) for kind, where in wrong_pixels(truth, predicted).items()}
    kept = KeptMaps(file, _by_class(truth), _by_class(predicted))
    classes = (pairs // K).astype(np.int32), (pairs % K).astype(np.int32)
    return PixelOutcome(str(file), *classes, counts, causes, kept)


def wrong_pixels(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Errors by cause, each (H, W) bool.

    Args:
        truth: (H, W) classes, -1: unannotated.
        predicted: (H, W) classes.
    """
    wrong = (truth >= 0) & (truth != predicted)
    edge = np.zeros(truth.shape, bool)
    edge[:-1] |= truth[:-1] != truth[1:]
    edge[:, :-1] |= truth[:, :-1] != truth[:, 1:]
    reach = max(1, round(BORDER * float(np.hypot(*truth.shape))))
    near = np.asarray(maximum_filter(edge, 2 * reach + 1), bool)
    missed = wrong & ~np.isin(truth, np.unique(predicted))
    boundary = wrong & near & ~missed
    return {"missed": missed, "wrong class": wrong & ~near & ~missed, "boundary": boundary}


def _by_class(classes: np.ndarray) -> list[tuple[int, Rle]]:
    numbers = [k for k in np.unique(classes).tolist() if k >= 0]
    return list(zip(numbers, masks.encode_ids(classes, numbers), strict=True))


def pixel_reasons(outcome: PixelOutcome) -> dict[int, tuple[float, ...]]:
    """Why an image's maps may be wanted: by class its share of wrong pixels, and as DOUBT."""
    wrong, total = outcome.truths != outcome.labels, max(int(outcome.counts.sum()), 1)
    found: dict[int, tuple[float, ...]] = {}
    for k in np.union1d(outcome.truths[wrong], outcome.labels[wrong]).tolist():
        of_class = wrong & ((outcome.truths == k) | (outcome.labels == k))
        found[k] = (int(outcome.counts[of_class].sum()) / total,)
    if doubts := doubtful_regions(outcome):
        found[DOUBT] = (doubts[0][2],)
    return found


def doubtful_regions(outcome: PixelOutcome) -> list[tuple[int, int, float]]:
    """Classes of the truth that are seen as one other class, and to which share, surest first."""
    total = int(outcome.counts.sum())
    found = []
    for t, p, count in zip(outcome.truths, outcome.labels, outcome.counts, strict=True):
        share = count / outcome.counts[outcome.truths == t].sum()
        if t != p and share >= SURE and count >= LARGE * total:
            found.append((int(t), int(p), float(share)))
    return sorted(found, key=lambda row: -row[2])
