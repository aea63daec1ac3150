"""F-score of contours: how well the outlines of found objects lie (as RefineMask measures it).

Objects that nobody found are left out of the mean, so that it says nothing of recall; `contour
found` says how many it speaks of.

Legend of one-letter names: N predictions, G objects, M matched pairs, H W pixels of a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from segcore import masks
from segcore.evaluation.coco_ap import Part
from segcore.evaluation.instance import part_of
from segcore.structures import Metadata, Record, Result, Rle

RADII = (1, 3, 5)  # pixels
FOUND = 0.5  # an object is found by a prediction of its class with that IoU
MARGIN = 0.5  # of the object's box, on each side, is looked at


@dataclass(frozen=True, slots=True)
class Contours:
    """Of one image."""

    objects: int
    scores: np.ndarray  # (M, radii) F-score of each object that was found


class ContourEvaluator:
    """Mean F-score of the contours of objects, for contours that may lie 1, 3 or 5 pixels apart."""

    def __init__(
        self, metadata: Metadata, *, truth: Callable[[Record], Record] | None = None
    ) -> None:
        self.metadata, self.truth = metadata, truth
        self.parts: list[Contours] = []

    def update(self, result: Result, record: Record) -> None:
        """Compare the contours of one image."""
        part = part_of(result, record, self.metadata, self.truth)
        truth = [(k, rle) for k, rle, _, crowd in part.truth if not crowd]
        pairs = _pairs(part, truth)
        scores = [f_scores(masks.decode(found), masks.decode(rle)) for found, rle in pairs]
        table = np.array(scores).reshape(-1, len(RADII))
        self.parts.append(Contours(len(truth), table))

    def compute(self) -> dict[str, float]:
        """In percent: contour F1px, F3px, F5px, and the share of objects that they are of."""
        scores = np.concatenate([np.zeros((0, len(RADII))), *(part.scores for part in self.parts)])
        objects = sum(part.objects for part in self.parts)
        means = scores.mean(0) if len(scores) else [float("nan")] * len(RADII)
        metrics = {f"contour F{r}px": f for r, f in zip(RADII, means, strict=True)}
        metrics["contour found"] = len(scores) / objects if objects else float("nan")
        return {name: 100 * float(value) for name, value in metrics.items()}


def _pairs(part: Part, truth: list[tuple[int, Rle]]) -> list[tuple[Rle, Rle]]:
    """Each object that was found, and the prediction that fits it best."""
    if not truth or not part.predictions:
        return []
    rles = [rle for _, rle, _ in part.predictions]
    ious = masks.coco_mask.iou(rles, [rle for _, rle in truth], [0] * len(truth))  # (N, G)
    same = np.array([k for k, _, _ in part.predictions])[:, None] == [k for k, _ in truth]
    ious = np.where(same, ious, 0.0)
    best = ious.argmax(0)  # (G,)
    fits = ious.max(0) >= FOUND
    return [(rles[best[g]], truth[g][1]) for g in np.flatnonzero(fits)]


def f_scores(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """F-score of the contours of two masks (H, W) around the true one, for each radius."""
    window = _window(truth)
    a, b = contour(found[window]), contour(truth[window])
    if not a.any() or not b.any():
        return [float(a.any() == b.any())] * len(RADII)
    to_truth, to_found = _distances(b)[a], _distances(a)[b]
    scores = []
    for radius in RADII:
        precision, recall = (to_truth <= radius).mean(), (to_found <= radius).mean()
        total = precision + recall
        scores.append(float(2 * precision * recall / total) if total else 0.0)
    return scores


def _distances(edge: np.ndarray) -> np.ndarray:
    """(H, W) from each pixel to the nearest one of a contour; r or less is a disk of radius r."""
    return np.asarray(distance_transform_edt(~edge))


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The box of a mask and half its size on each side, inside the image."""
    window = []
    for axis in (1, 0):
        at = np.flatnonzero(mask.any(axis))
        low, high = int(at[0]), int(at[-1]) + 1
        margin = MARGIN * (high - low)
        window.append(slice(max(0, int(low - margin)), int(np.ceil(high + margin))))
    return window[0], window[1]


def contour(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ from the right, the lower or the lower right one."""
    edge = np.zeros_like(mask)
    right, lower = mask[:, :-1] != mask[:, 1:], mask[:-1] != mask[1:]
    edge[:, :-1] |= right
    edge[:-1] |= lower
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge
