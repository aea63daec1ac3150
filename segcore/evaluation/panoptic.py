"""Panoptic quality (Kirillov et al., 2019), matched as panopticapi does.

Sums of numpy, not vernier's partial results: they are a row per class, whatever the number of
images, and add up over processes. Tests hold them to vernier in strict mode.

Legend of one-letter names: K classes, H W pixels.
"""

from __future__ import annotations

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.trivial import warn_trivial
from segcore.labels import frame_ids, lookup
from segcore.segment_rle import to_rle
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
        predicted = result.panoptic.map.numpy()
        if truth.shape != predicted.shape:
            raise DataError(
                f"{record.frames[0].panoptic or record.frames[0].file}: ids are {truth.shape}, the"
                f" image is {predicted.shape}; expected the same height and width"
            )
        self.parts[0] += match(
            truth, segments, predicted, result.panoptic, len(self.metadata.classes)
        )

    def compute(self) -> dict[str, float]:
        """PQ, SQ, RQ of all, things (_th) and stuff (_st), and PQ-<class>, in percent."""
        iou, tp, fp, fn = np.sum(self.parts, axis=0).T
        occurs = tp + fp + fn > 0
        occurs[list(self.metadata.absent)] = False  # nobody has looked for them
        annotated = np.flatnonzero(tp + fn > 0)
        if len(annotated) == 1 and not self.metadata.is_thing[annotated[0]]:
            warn_trivial(self.metadata, int(annotated[0]), "PQ")
        total = np.where(occurs, tp + 0.5 * fp + 0.5 * fn, 1)
        pq, sq, rq = iou / total, iou / np.maximum(tp, 1), tp / total
        thing = np.array(self.metadata.is_thing, bool)
        results: dict[str, float] = {}
        for suffix, which in (("", occurs), ("_th", occurs & thing), ("_st", occurs & ~thing)):
            for name, values in (("PQ", pq), ("SQ", sq), ("RQ", rq)):
                mean = values[which].mean() if which.any() else float("nan")
                results[name + suffix] = 100 * float(mean)
        for k in np.flatnonzero(occurs):
            results[f"PQ-{self.metadata.row_names[k]}"] = 100 * float(pq[k])
        return results


def truth_map(record: Record) -> tuple[np.ndarray, dict[int, Segment]]:
    """Ids (H, W) of the ground truth and the segment of each.

    Annotations that are no panoptic PNG are painted: earlier ones win over later ones, all over
    crowds, and what is covered altogether is left out.
    """
    frame: Frame = record.frames[0]
    if frame.panoptic is not None and all(isinstance(s.shape, PngId) for s in frame.segments):
        ids = frame_ids(frame)
        return ids, {s.shape.id: s for s in frame.segments if isinstance(s.shape, PngId)}
    ids = np.zeros(record.size, np.int32)
    segments: dict[int, Segment] = {}
    for i, segment in enumerate(sorted(frame.segments, key=lambda s: s.crowd), 1):
        free = masks.decode(to_rle(segment, frame, record.size)) & (ids == 0)
        if free.any():
            ids[free] = i
            segments[i] = segment
    return ids, segments


def match(
    truth: np.ndarray,
    segments: dict[int, Segment],
    predicted: np.ndarray,
    panoptic: Panoptic,
    num_classes: int,
) -> np.ndarray:
    """(K, 4): sum of IoU, TP, FP, FN of one image.

    Segments match at IoU over .5 in the same class; what lies on unannotated area is not held
    against a prediction, and one that is mostly there, or on a crowd of its class, is no error.

    Args:
        truth: (H, W) ids of `segments`; any other value is unannotated area.
        predicted: (H, W) ids of `panoptic.segments`, 0 where nothing was predicted.
    """
    shared = _shared(truth, list(segments), predicted, [p.id for p in panoptic.segments])
    t_class = np.array([s.category for s in segments.values()], int)
    f_class = np.array([p.category for p in panoptic.segments], int)
    crowd = np.array([s.crowd for s in segments.values()], bool)
    t_area, f_area = shared.sum(1)[1:], shared.sum(0)[1:]
    void, both = shared[0, 1:], shared[1:, 1:]
    union = t_area[:, None] + f_area - both - void  # (truths, predicted)
    pair = (t_class[:, None] == f_class) & ~crowd[:, None] & (2 * both > union)
    t, f = np.nonzero(pair)  # at most one a row and column: over .5 twice cannot be
    excused = void.copy()
    last = {k: i for i, k in enumerate(t_class.tolist()) if crowd[i]}  # panopticapi knows one
    for i, k in enumerate(f_class.tolist()):
        excused[i] += both[last[k], i] if k in last else 0
    missed = ~crowd & ~pair.any(1)
    wrong = (f_area > 0) & ~pair.any(0) & (2 * excused <= f_area)
    sums = np.zeros((num_classes, 4))
    np.add.at(sums[:, 0], t_class[t], both[t, f] / union[t, f])
    for column, labels in ((1, t_class[t]), (2, f_class[wrong]), (3, t_class[missed])):
        sums[:, column] = np.bincount(labels, minlength=num_classes)
    return sums


def _shared(
    truth: np.ndarray, rows: list[int], predicted: np.ndarray, columns: list[int]
) -> np.ndarray:
    """(1 + rows, 1 + columns) pixels that two segments share; first row and column: neither."""
    row = lookup(truth, {number: i for i, number in enumerate(rows)}) + 1
    column = lookup(predicted, {number: i for i, number in enumerate(columns)}) + 1
    shape = (len(rows) + 1, len(columns) + 1)
    pairs = row.astype(np.int64) * shape[1] + column
    return np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
