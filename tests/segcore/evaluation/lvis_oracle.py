"""LVIS's rules (Gupta et al., 2019), counted one image, class and threshold at a time: the oracle.

Legend of one-letter names: N predictions, G objects, T thresholds, K classes.
"""

import coco_oracle
import numpy as np

from segcore import masks

THRESHOLDS, RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
DILATION = 0.02


def precision(parts, num_classes, kind, *, max_dets=300):
    """(T, 101, K, areas), -1 where a class has no object."""
    table = -np.ones((10, 101, num_classes, len(AREAS)))
    for k in range(num_classes):
        for a, limits in enumerate(AREAS):
            found = [rows for part in parts for rows in _rows(part, k, limits, kind, max_dets)]
            total = sum(_count(part, k, limits) for part in parts)
            if total:
                table[:, :, k, a] = _curve(found, total)
    return table


def _count(part, k, limits):
    return sum(c == k and limits[0] <= area <= limits[1] for c, _, area, _ in part.truth)


def _rows(part, k, limits, kind, max_dets):
    """(score, (T,) hit, (T,) ignored) of the predictions of a class that count in an image."""
    best = sorted(part.predictions, key=lambda p: -p[2])[:max_dets]
    mine = [(rle, score) for c, rle, score in best if c == k]
    truth = [(rle, area) for c, rle, area, _ in part.truth if c == k]
    if not truth and k not in part.negatives:
        return []
    outside = [not limits[0] <= area <= limits[1] for _, area in truth]
    order = sorted(range(len(truth)), key=lambda g: outside[g])  # what counts comes first
    ious = _ious([rle for rle, _ in mine], [truth[g][0] for g in order], kind)
    away = [outside[g] for g in order]
    hits = np.zeros((len(mine), 10), bool)
    ignored = np.zeros((len(mine), 10), bool)
    for t, threshold in enumerate(THRESHOLDS):
        taken = set()
        for n, (rle, _) in enumerate(mine):
            g = _partner(ious[n], away, taken, threshold)
            taken.add(g)
            hits[n, t] = g is not None
            alone = not limits[0] <= masks.area([rle])[0] <= limits[1] or k in part.not_exhaustive
            ignored[n, t] = alone if g is None else away[g]
    return [(score, hits[n], ignored[n]) for n, (_, score) in enumerate(mine)]


def _ious(found, truth, kind):
    if not found or not truth:
        return np.zeros((len(found), 0))
    none = [0] * len(truth)
    if kind == "bbox":
        boxes = [masks.coco_mask.toBbox(rles) for rles in (found, truth)]
        return masks.coco_mask.iou(*boxes, none)
    ious = masks.coco_mask.iou(found, truth, none)
    if kind == "boundary":
        rings = [[coco_oracle.boundary(rle, DILATION) for rle in rles] for rles in (found, truth)]
        ious = np.minimum(ious, masks.coco_mask.iou(*rings, none))
    return ious


def _partner(ious, away, taken, threshold):
    """The free object of the largest overlap, later ones first; one that counts if there is any."""
    fitting = [g for g, iou in enumerate(ious) if g not in taken and iou >= threshold]
    counting = [g for g in fitting if not away[g]]
    return max(counting or fitting, key=lambda g: (ious[g], g), default=None)


def _curve(rows, total):
    """(T, 101) the best precision at that recall or more."""
    table = np.zeros((10, 101))
    rows = sorted(rows, key=lambda row: -row[0])
    for t in range(10):
        kept = [hit[t] for _, hit, ignored in rows if not ignored[t]]
        right = np.cumsum(kept)
        share = right / np.arange(1, len(kept) + 1)
        for r, recall in enumerate(RECALLS):
            reached = share[right / total >= recall]
            table[t, r] = max(reached, default=0)
    return table
