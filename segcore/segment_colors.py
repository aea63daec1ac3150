"""Colours of segments, so that a prediction looks like the truth that it matches."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from segcore import masks
from segcore.structures import Metadata, Result, Rle

Color = tuple[int, int, int]
Region = tuple[int, Rle]  # a class and its mask
MATCHED = 0.5  # intersection over union from which a prediction is of a true segment


def regions(result: Result) -> list[Region]:
    """Segments or else instances of a result, in its order."""
    if result.panoptic is not None:
        segments = result.panoptic.segments
        rles = masks.encode_ids(result.panoptic.map.numpy(), [s.id for s in segments])
        return list(zip([s.category for s in segments], rles, strict=True))
    if result.instances is not None:
        return list(zip(result.instances.labels.tolist(), result.instances.masks, strict=True))
    return []


def own_colors(labels: Sequence[int], metadata: Metadata, first: int = 0) -> list[Color]:
    """Of segments of these classes: one for each thing, stuff has its class's.

    Args:
        first: how many colours are taken.
    """
    return [
        distinct(first + i) if metadata.is_thing[k] else metadata.colors[k]
        for i, k in enumerate(labels)
    ]


def matched_colors(
    predicted: Sequence[Region], truth: Sequence[Region], metadata: Metadata
) -> list[Color]:
    """Colours of predicted segments, beside a truth in its `own_colors`.

    What matches a true segment has its colour, whatever the class; but stuff on stuff has its
    class's. All else has colours that the truth has not.
    """
    of_truth = own_colors([k for k, _ in truth], metadata)
    colors = own_colors([k for k, _ in predicted], metadata, first=len(truth))
    of = matched([rle for _, rle in predicted], [rle for _, rle in truth])
    for i, j in enumerate(of):
        if j >= 0 and (metadata.is_thing[predicted[i][0]] or metadata.is_thing[truth[j][0]]):
            colors[i] = of_truth[j]
    return colors


def matched(rles: Sequence[Rle], truths: Sequence[Rle]) -> list[int]:
    """Index of the truth that each mask matches, the closest pairs first, each once; -1: none."""
    iou = masks.iou(rles, truths)
    of = [-1] * len(rles)
    for pair in np.argsort(-iou, axis=None, kind="stable").tolist():
        i, j = divmod(pair, len(truths))
        if iou[i, j] < MATCHED:
            break
        if of[i] < 0 and j not in of:
            of[i] = j
    return of


def distinct(i: int) -> Color:
    """Colours of neighbours in a list lie far apart."""
    hue, value = i * 0.618034 % 1, (0.95, 0.75, 0.85)[i % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, value)
    return int(255 * red), int(255 * green), int(255 * blue)
