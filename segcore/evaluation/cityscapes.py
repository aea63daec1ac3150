"""Instance AP as cityscapesScripts computes it (Cordts et al., 2016), held to it by a test.

It is not COCO's: what overlaps no object counts by the share of it that lies where nothing is
annotated, objects under 100 pixels are ignored, an IoU must be larger than its threshold, precision
is not made monotone, and there is no limit to predictions.

Legend of one-letter names: N predictions, G objects and groups of an image, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.labels import read_ids
from segcore.structures import Frame, Instances, Metadata, Record, Result

OBJECTS = (24, 25, 26, 27, 28, 31, 32, 33)  # label ids of classes that have objects
VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)  # label ids that are not evaluated
FIRST_OBJECT = 1000  # pixel values from here are label * 1000 + number, those below are labels
SMALL = 100  # pixels; an object of fewer is ignored
THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # the script's own: .6 is .6000000000000001


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What AP needs to know of one image: numbers of pixels."""

    labels: np.ndarray  # (G,) label ids
    sizes: np.ndarray  # (G,)
    group: np.ndarray  # (G,) bool: several objects in one
    found: np.ndarray  # (N,) label ids of predictions
    scores: np.ndarray  # (N,)
    areas: np.ndarray  # (N,)
    void: np.ndarray  # (N,) of them where nothing is annotated
    shared: np.ndarray  # (N, G)


class CityscapesEvaluator:
    """The official AP and AP50 of objects, from *_gtFine_instanceIds.png."""

    def __init__(self, metadata: Metadata) -> None:
        if missing := sorted(set(OBJECTS) - set(metadata.dataset_ids)):
            raise DataError(
                f"{metadata.name}: the evaluator `cityscapes` needs classes of the label ids"
                f" {OBJECTS}; {missing} are missing; leave it out of `evaluators`, or see"
                " datasets/classes/cityscapes_things.yaml"
            )
        self.metadata = metadata
        self.ids = np.array(metadata.dataset_ids)
        self.parts: list[Overlaps] = []

    def update(self, result: Result, record: Record) -> None:
        """Count the pixels of one image."""
        assert result.instances is not None
        path = _instance_ids(record.frames[0])
        ids = read_ids(path)  # (H, W)
        sizes = {tuple(rle["size"]) for rle in result.instances.masks}
        if sizes - {ids.shape}:
            raise DataError(
                f"{path}: is {ids.shape}, predicted masks are {sizes}; expected the same height"
                " and width"
            )
        self.parts.append(_overlaps(ids, result.instances, self.ids))

    def compute(self) -> dict[str, float]:
        """In percent: cityscapes AP, cityscapes AP50, and cityscapes AP-<class>."""
        table = np.array(
            [
                [average_precision(self.parts, label, float(t)) for t in THRESHOLDS]
                for label in OBJECTS
            ]
        )
        annotated = ~np.isnan(table[:, 0])
        if not annotated.any():
            return dict.fromkeys(("cityscapes AP", "cityscapes AP50"), float("nan"))
        mean = table[annotated].mean(0)  # over classes
        metrics = {"cityscapes AP": mean.mean(), "cityscapes AP50": mean[0]}
        for label, values in zip(OBJECTS, table, strict=True):
            name = self.metadata.classes[self.metadata.dataset_ids.index(label)]
            if not np.isnan(values[0]):
                metrics[f"cityscapes AP-{name}"] = values.mean()
        return {name: 100 * float(value) for name, value in metrics.items()}


def _instance_ids(frame: Frame) -> Path:
    """The official PNG, which lies beside the label ids where another one is the truth of PQ."""
    for path, kind in ((frame.panoptic, "instanceIds"), (frame.semantic, "labelIds")):
        if path is not None and path.name.endswith(f"_{kind}.png"):
            return path.with_name(path.name.replace(f"_{kind}.png", "_instanceIds.png"))
    raise DataError(
        f"{frame.file}: its AP by Cityscapes' rules needs *_gtFine_instanceIds.png; leave the"
        " evaluator `cityscapes` out for other data"
    )


def _overlaps(ids: np.ndarray, instances: Instances, label_of: np.ndarray) -> Overlaps:
    """Of ids (H, W) and predictions, whose classes `label_of` makes label ids."""
    counts = np.bincount(ids.ravel())
    values = np.flatnonzero(counts)
    labels = np.where(values < FIRST_OBJECT, values, values // FIRST_OBJECT)
    kept = np.isin(labels, OBJECTS)
    values, labels = values[kept], labels[kept]
    # as in the script, objects of ignored classes (29001: a caravan) are not void, their groups are
    nothing = masks.encode(np.isin(ids, VOID)[None])
    areas = masks.area(instances.masks)
    some = np.flatnonzero(areas)  # the script passes over empty masks
    rles = [instances.masks[n] for n in some]
    truth = masks.encode_ids(ids, values.tolist()) + nothing
    shared = np.zeros((len(rles), len(truth)), np.int64)
    if rles:  # the IoU with a crowd is the share of the prediction
        shares = masks.coco_mask.iou(rles, truth, [1] * len(truth))
        shared = np.rint(shares * areas[some, None]).astype(np.int64)
    return Overlaps(
        labels,
        counts[values],
        values < FIRST_OBJECT,
        label_of[instances.labels.numpy()[some]],
        instances.scores.numpy()[some].astype(np.float64),
        areas[some].astype(np.int64),
        shared[:, -1],
        shared[:, :-1],
    )


def average_precision(parts: list[Overlaps], label: int, threshold: float) -> float:
    """AP of a class at one IoU; NaN where there is no object of it."""
    hits, mistakes, missed = [], [], 0
    for part in parts:
        right, wrong, objects = _counted(part, label, threshold)
        hits.append(right)
        mistakes.append(wrong)
        missed += objects - len(right)
    right, wrong = np.concatenate([*hits, []]), np.concatenate([*mistakes, []])
    if missed + len(right) == 0:
        return float("nan")
    return _area_under(right, wrong, missed)


def _counted(part: Overlaps, label: int, threshold: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores of hits, scores of mistakes, and how many objects there are, of one class."""
    n, g = part.found == label, part.labels == label
    scores, areas, shared = part.scores[n], part.areas[n], part.shared[n][:, g]
    sizes, group = part.sizes[g], part.group[g]
    counts = ~group & (sizes >= SMALL)  # (G,)
    if not len(scores):
        return scores, scores, int(counts.sum())
    over = shared / (areas[:, None] + sizes - shared) > threshold  # (N, G), at most one in a row
    # the best-scored prediction of an object is right, others of the same object are mistakes
    best = np.where(over, scores[:, None], -np.inf)[:, counts].argmax(0)
    hit = np.zeros(len(scores), bool)
    hit[best[over[:, counts].any(0)]] = True
    surplus = over[:, counts].any(1) & ~hit
    # as in the script, a group under 100 pixels is subtracted twice
    ignored = part.void[n] + shared[:, group].sum(1) + shared[:, sizes < SMALL].sum(1)
    stray = ~over.any(1) & (ignored / areas <= threshold)
    return scores[hit], scores[surplus | stray], int(counts.sum())


def _area_under(right: np.ndarray, wrong: np.ndarray, missed: int) -> float:
    """Precision times the width of its step in recall, from neighbour to neighbour."""
    scores = np.concatenate([right, wrong])
    if not len(scores):
        return 0.0  # the script stops with an error where all predictions are ignored
    order = np.argsort(scores, kind="stable")
    hits = np.cumsum(order < len(right))
    first = np.unique(scores[order], return_index=True)[1]
    below = np.concatenate([[0], hits])[first]  # hits of a lower score
    above = hits[-1] - below
    precision = np.append(above / (len(scores) - first), 1.0)
    recall = np.append(above / (hits[-1] + missed), 0.0)
    edges = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (0.5 * (edges[:-2] - edges[2:])))
