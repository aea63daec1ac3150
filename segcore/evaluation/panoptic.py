"""Panoptic quality (Kirillov et al., 2019), matched as panopticapi does.

Legend of one-letter names: K classes, H W pixels.
"""

from __future__ import annotations

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Panoptic, PngId, Record, Result, Segment


class PanopticEvaluator:
    """Sums per class: of IoU, true and false positives, false negatives."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.parts: list[np.ndarray] = [np.zeros((len(metadata.classes), 4))]

    def update(self, result: Result, record: Record) -> None:
        """Match one image."""
        assert result.panoptic is not None
        truth, segments = truth_map(record)
        found = result.panoptic.map.numpy()
        if truth.shape != found.shape:
            raise DataError(
                f"{record.frames[0].panoptic}: ids are {truth.shape}, the image is {found.shape};"
                " expected the same height and width"
            )
        self.parts[0] += match(truth, segments, found, result.panoptic, len(self.metadata.classes))

    def compute(self) -> dict[str, float]:
        """PQ, SQ, RQ of all, things (_th) and stuff (_st), and PQ-<class>, in percent."""
        iou, tp, fp, fn = np.sum(self.parts, axis=0).T
        occurs = tp + fp + fn > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            sq = np.where(tp > 0, iou / tp, 0)
            rq = np.where(occurs, tp / (tp + 0.5 * fp + 0.5 * fn), 0)
        pq = sq * rq
        thing = np.array(self.metadata.is_thing, bool)
        results: dict[str, float] = {}
        for suffix, which in (("", occurs), ("_th", occurs & thing), ("_st", occurs & ~thing)):
            for name, values in (("PQ", pq), ("SQ", sq), ("RQ", rq)):
                mean = values[which].mean() if which.any() else float("nan")
                results[name + suffix] = 100 * float(mean)
        for k in np.flatnonzero(occurs):
            results[f"PQ-{self.metadata.classes[k]}"] = 100 * float(pq[k])
        return results


def truth_map(record: Record) -> tuple[np.ndarray, dict[int, Segment]]:
    """Ids (H, W) of the ground truth and the segment of each; masks are painted in order."""
    frame: Frame = record.frames[0]
    if all(isinstance(s.shape, PngId) for s in frame.segments) and frame.panoptic is not None:
        ids = masks.read_ids(frame.panoptic)
        return ids, {s.shape.id: s for s in frame.segments if isinstance(s.shape, PngId)}
    ids = np.zeros(record.size, np.int32)
    for i, segment in enumerate(frame.segments, 1):
        ids[masks.decode(masks.to_rle(segment, frame, record.size)) & (ids == 0)] = i
    return ids, dict(enumerate(frame.segments, 1))


def match(
    truth: np.ndarray,
    segments: dict[int, Segment],
    found: np.ndarray,
    panoptic: Panoptic,
    num_classes: int,
) -> np.ndarray:
    """(K, 4): sum of IoU, TP, FP, FN of one image.

    Segments match at IoU over .5 in the same class; what lies on unannotated area is not held
    against a prediction, and one that is mostly there, or on a crowd of its class, is no error.
    """
    sums = np.zeros((num_classes, 4))
    base = int(found.max(initial=0)) + 1
    pairs, counts = np.unique(truth.astype(np.int64) * base + found, return_counts=True)
    shared = {(int(p // base), int(p % base)): int(n) for p, n in zip(pairs, counts, strict=True)}
    areas_truth: dict[int, int] = {}
    areas_found: dict[int, int] = {}
    void: dict[int, int] = {}  # predicted id -> pixels on unannotated area
    for (t, f), n in shared.items():
        areas_truth[t] = areas_truth.get(t, 0) + n
        areas_found[f] = areas_found.get(f, 0) + n
        if t not in segments:
            void[f] = void.get(f, 0) + n
    predicted = {s.id: s.category for s in panoptic.segments if s.id in areas_found}
    matched_truth, matched_found = set(), set()
    for (t, f), n in shared.items():
        segment = segments.get(t)
        if segment is None or f not in predicted or segment.crowd:
            continue
        if segment.category != predicted[f]:
            continue
        iou = n / (areas_truth[t] + areas_found[f] - n - void.get(f, 0))
        if iou > 0.5:
            sums[segment.category, :2] += iou, 1
            matched_truth.add(t)
            matched_found.add(f)
    crowds = {s.category: t for t, s in segments.items() if s.crowd}
    for t, segment in segments.items():
        if t not in matched_truth and not segment.crowd and t in areas_truth:
            sums[segment.category, 3] += 1
    for f, category in predicted.items():
        if f not in matched_found:
            harmless = void.get(f, 0) + shared.get((crowds.get(category, -1), f), 0)
            if harmless / areas_found[f] <= 0.5:
                sums[category, 2] += 1
    return sums
