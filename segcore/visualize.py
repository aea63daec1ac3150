"""Pictures of results.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from segcore.evaluation.panoptic import truth_map
from segcore.labels import semantic_map
from segcore.painting import middle, outline, paint_masks, write_labels
from segcore.segment_colors import Color, distinct, matched_colors, own_colors, regions
from segcore.structures import (
    Instances,
    Metadata,
    Panoptic,
    PanopticSegment,
    Record,
    Result,
)
from segcore.video.stream import TrackedFrame


def draw(
    image: np.ndarray,
    result: Result,
    metadata: Metadata,
    *,
    threshold: float = 0.5,
    alpha: float = 0.55,
    truth: Result | None = None,
) -> np.ndarray:
    """The image (H, W, 3) uint8 under what was found: panoptic, else semantic and instances.

    Args:
        truth: whose segments lend their colours to those that match them, as `draw` paints it.
    """
    canvas = image.copy()
    labels: list[tuple[str, np.ndarray]] = []
    colors = matched_colors(regions(result), regions(truth), metadata) if truth else None
    if result.panoptic is not None:
        labels = _paint_panoptic(canvas, result.panoptic, metadata, alpha, colors)
    else:
        if result.semantic is not None:
            labels += _paint_semantic(canvas, result.semantic.numpy(), metadata, alpha)
        if result.instances is not None:
            labels += _paint_instances(canvas, result.instances, metadata, threshold, alpha, colors)
    return write_labels(canvas, labels)


def _paint_panoptic(
    canvas: np.ndarray,
    panoptic: Panoptic,
    metadata: Metadata,
    alpha: float,
    given: Sequence[Color] | None = None,
) -> list[tuple[str, np.ndarray]]:
    ids = panoptic.map.numpy()
    size = max([int(ids.max(initial=0)), *(s.id for s in panoptic.segments)], default=0) + 1
    colors = np.zeros((size, 3), np.float32)
    strength = np.zeros(size, np.float32)
    given = given or own_colors([s.category for s in panoptic.segments], metadata)
    for s, color in zip(panoptic.segments, given, strict=True):
        colors[s.id] = color
        strength[s.id] = alpha
    for rows in _strips(len(canvas)):
        weight = strength[ids[rows]][..., None]
        canvas[rows] = canvas[rows] * (1 - weight) + colors[ids[rows]] * weight
    outline(canvas, ids)
    names = []
    if len(metadata.classes) == 1:  # the same word everywhere says nothing
        return names
    for s in panoptic.segments:
        if s.area > 0.004 * ids.size:
            names.append((metadata.classes[s.category], middle(ids == s.id)))
    return names


def _paint_semantic(
    canvas: np.ndarray, classes: np.ndarray, metadata: Metadata, alpha: float
) -> list[tuple[str, np.ndarray]]:
    colors = np.asarray(metadata.colors, np.float32)
    for rows in _strips(len(canvas)):
        canvas[rows] = canvas[rows] * (1 - alpha) + colors[classes[rows]] * alpha
    outline(canvas, classes)
    found, counts = np.unique(classes, return_counts=True)
    big = found[counts > 0.02 * classes.size]
    return [(metadata.classes[k], middle(classes == k)) for k in big]


def _paint_instances(
    canvas: np.ndarray,
    found: Instances,
    metadata: Metadata,
    threshold: float,
    alpha: float,
    given: Sequence[Color] | None = None,
) -> list[tuple[str, np.ndarray]]:
    colors = given or [distinct(i) for i in range(len(found.masks))]
    columns = found.masks, found.scores.tolist(), found.labels.tolist(), colors
    rows = [
        (rle, color, f"{metadata.classes[label]} {100 * score:.0f}%")
        for rle, score, label, color in zip(*columns, strict=True)
        if score >= threshold
    ]
    return paint_masks(canvas, rows, alpha)


def draw_tracks(
    frame: TrackedFrame, metadata: Metadata, *, threshold: float = 0.5, alpha: float = 0.55
) -> np.ndarray:
    """A frame (H, W, 3) uint8 under what shows in it; things have their track's colour."""
    canvas = frame.image.copy()
    columns = (frame.scores, frame.labels, frame.ids)
    rows = zip(*(column.tolist() for column in columns), frame.masks, strict=True)
    painted = []
    for score, label, number, rle in sorted(rows, key=lambda row: -row[0]):
        if score >= threshold:
            color = distinct(number) if metadata.is_thing[label] else metadata.colors[label]
            text = f"[{number}] {metadata.classes[label]} {100 * score:.0f}%"
            painted.append((rle, color, text))
    return write_labels(canvas, paint_masks(canvas, painted, alpha))


def _strips(height: int) -> list[slice]:
    """A photograph of 50 megapixels is never held in floating point as a whole."""
    return [slice(y, y + 256) for y in range(0, height, 256)]


def ground_truth(record: Record, metadata: Metadata) -> Result:
    """What was annotated, as a result: panoptic from segments, else semantic."""
    frame = record.frames[0]
    if not frame.segments and frame.semantic is not None:
        classes = semantic_map(frame, metadata)
        return Result(semantic=torch.from_numpy(np.maximum(classes, 0).astype(np.int16)))
    ids, segments = truth_map(record)
    found, index, counts = np.unique(ids, return_inverse=True, return_counts=True)
    numbers = np.zeros(len(found), np.int32)
    listed = []
    for i, (value, area) in enumerate(zip(found.tolist(), counts.tolist(), strict=True)):
        if value in segments:
            numbers[i] = len(listed) + 1
            k = segments[value].category
            listed.append(PanopticSegment(len(listed) + 1, k, metadata.is_thing[k], 1.0, area))
    return Result(panoptic=Panoptic(torch.from_numpy(numbers[index.reshape(ids.shape)]), listed))
