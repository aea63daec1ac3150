"""What was annotated and what was predicted in an image: masks with classes, whatever the task.

Legend of one-letter names: N true segments, P predicted segments, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.instance import part_of
from segcore.evaluation.panoptic import truth_map
from segcore.labels import lookup
from segcore.report.compared import Compare, Compared
from segcore.structures import Metadata, Record, Result, Rle

CONFIDENCE = 0.5  # of instances that count as shown, as `segcore predict` draws them
CROWD = 0.5  # share of a prediction on a crowd or on unannotated area from which it is no error


def compare_as(
    kind: str, metadata: Metadata, truth: Callable[[Record], Record] | None = None
) -> Compare:
    """How results of a kind are compared.

    Args:
        kind: "instance", "entity" or "panoptic".
        truth: as of InstanceEvaluator.
    """
    if kind == "panoptic":
        return of_panoptic
    shown = metadata.as_entities() if kind == "entity" else metadata
    return partial(of_instances, metadata=shown, truth=truth, entities=kind == "entity")


def of_instances(
    result: Result,
    record: Record,
    *,
    metadata: Metadata,
    truth: Callable[[Record], Record] | None = None,
    entities: bool = False,
) -> Compared:
    """Objects against instances; crowds, and by LVIS's rules what nobody looked for, excuse."""
    if entities:
        frame = record.frames[0]
        segments = tuple(replace(s, category=0) for s in frame.segments)
        record = replace(record, frames=(replace(frame, segments=segments),))
    part = part_of(result, record, metadata, truth)
    rows = sorted(part.predictions, key=lambda row: -row[2])
    predicted = [rle for _, rle, _ in rows]
    labels = np.array([k for k, _, _ in rows], int)
    crowds = [(k, rle) for k, rle, _, crowd in part.truth if crowd]
    excused = _on_crowds(predicted, labels, crowds)
    objects = [(k, rle) for k, rle, _, crowd in part.truth if not crowd]
    if metadata.frequencies:  # LVIS: classes that nobody looked for, or not to the end
        judged = {*part.negatives, *(k for k, *_ in part.truth)} - {*part.not_exhaustive}
        excused |= ~np.isin(labels, list(judged))
    return Compared(
        part.size,
        [k for k, _ in objects],
        [rle for _, rle in objects],
        labels.tolist(),
        [score for _, _, score in rows],
        predicted,
        excused,
        CONFIDENCE,
    )


def _on_crowds(
    predicted: list[Rle], labels: np.ndarray, crowds: list[tuple[int, Rle]]
) -> np.ndarray:
    """(P,) bool: by half of its pixels on a crowd of its class."""
    if not predicted or not crowds:
        return np.zeros(len(predicted), bool)
    rles = [rle for _, rle in crowds]
    shares = masks.coco_mask.iou(predicted, rles, [1] * len(rles))  # (P, crowds) of the prediction
    same = labels[:, None] == np.array([k for k, _ in crowds])
    return (same & (shares >= CROWD)).any(1)


def of_panoptic(result: Result, record: Record) -> Compared:
    """Segments against segments; what lies on unannotated area does not count."""
    assert result.panoptic is not None
    ids, segments = truth_map(record)
    predicted = result.panoptic.map.numpy()
    if ids.shape != predicted.shape:
        raise DataError(
            f"{record.frames[0].file}: ids are {ids.shape}, the prediction is {predicted.shape};"
            " expected the same height and width"
        )
    rows = sorted(result.panoptic.segments, key=lambda s: -s.score)
    void = lookup(ids, dict.fromkeys(segments, 0)) < 0  # (H, W)
    rles = masks.encode_ids(np.where(void, 0, predicted), [s.id for s in rows])
    areas, labels = masks.area(rles), np.array([s.category for s in rows], int)
    true = masks.encode_ids(ids, list(segments))
    named = list(zip(segments.values(), true, strict=True))
    excused = _on_crowds(rles, labels, [(s.category, rle) for s, rle in named if s.crowd])
    whole = np.array([s.area for s in rows])
    excused |= 2 * (whole - areas) >= np.maximum(whole, 1)
    objects = [(s.category, rle) for s, rle in named if not s.crowd]
    return Compared(
        record.size,
        [k for k, _ in objects],
        [rle for _, rle in objects],
        labels.tolist(),
        [s.score for s in rows],
        rles,
        excused,
        0.0,  # what is in the map is shown
    )
