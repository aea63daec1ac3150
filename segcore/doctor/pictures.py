"""Pictures of findings and of samples, small enough for one page.

Legend of one-letter names: N segments, T views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from segcore import masks
from segcore.data.images import read_image
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import (
    Metadata,
    Panoptic,
    PanopticSegment,
    Record,
    Result,
    Sample,
)
from segcore.visualize import draw, ground_truth

CONTEXT = 4  # times an object's longer side that is shown around it
LEAST = 96  # pixels of that
LARGEST = 1e6  # what is beyond is drawn nowhere
MARK = (255, 0, 80)


def annotated(record: Record, metadata: Metadata) -> np.ndarray:
    """An image under all of its annotation; the plain image where that cannot be drawn."""
    image = read_image(record.frames[0].file)
    if image.shape[:2] != record.size:
        return image
    try:
        return draw(image, ground_truth(record, metadata), metadata)
    except DataError:
        return image


def segment_picture(record: Record, index: int, metadata: Metadata) -> np.ndarray:
    """One segment of an image, and what is around it."""
    frame = record.frames[0]
    image, segment = read_image(frame.file), frame.segments[index]
    if image.shape[:2] != record.size:
        return image
    mask = masks.decode(to_rle(segment, frame, record.size))
    thing, area = metadata.is_thing[segment.category], int(mask.sum())
    one = PanopticSegment(1, segment.category, thing, 1.0, area)
    shown = Result(panoptic=Panoptic(torch.from_numpy(mask.astype(np.int32)), [one]))
    picture = draw(image, shown, metadata)
    return _cut(picture, mask) if area else picture


def _cut(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The surroundings of a mask, with a box around it; the whole picture where it is large."""
    H, W = mask.shape
    x0, y0, x1, y1 = masks.boxes(masks.encode(mask[None]))[0].astype(int).tolist()
    canvas = Image.fromarray(picture)
    ImageDraw.Draw(canvas).rectangle((x0 - 3, y0 - 3, x1 + 2, y1 + 2), outline=MARK)
    side = max(LEAST, CONTEXT * max(x1 - x0, y1 - y0))
    if 2 * side > max(H, W):
        return np.asarray(canvas)
    left = min(max((x0 + x1 - side) // 2, 0), max(W - side, 0))
    top = min(max((y0 + y1 - side) // 2, 0), max(H - side, 0))
    return np.asarray(canvas.crop((left, top, min(left + side, W), min(top + side, H))))


def entry_picture(file: Path, entry: dict[str, Any]) -> np.ndarray:
    """An annotation as its file has it: rings and box as lines, what lies outside the image too."""
    image = read_image(file)
    rings, box = _rings(entry.get("segmentation")), _box(entry.get("bbox"))
    H, W = image.shape[:2]
    corners = [point for ring in [*rings, box] for point in ring]
    x0, x1 = _reach([x for x, _ in corners], W)
    y0, y1 = _reach([y for _, y in corners], H)
    canvas = Image.new("RGB", (x1 - x0, y1 - y0), (225, 225, 225))
    canvas.paste(Image.fromarray(image), (-x0, -y0))
    pen, width = ImageDraw.Draw(canvas), max(1, max(H, W) // 200)
    for ring, color in [*((ring, MARK) for ring in rings), (box, (255, 200, 0))]:
        if ring:
            moved = [(x - x0, y - y0) for x, y in ring]
            pen.line([*moved, moved[0]], fill=color, width=width)
    return np.asarray(canvas)


def _reach(values: Sequence[float], edge: int) -> tuple[int, int]:
    """From where to where an axis is shown: the image, and up to an image more on either side."""
    low, high = min(values, default=0), max(values, default=edge)
    return -int(min(max(-low, 0), edge)), edge + int(min(max(high - edge, 0), edge)) + 1


def _rings(value: Any) -> list[list[tuple[float, float]]]:
    """Points of every list of numbers that is there, right or wrong."""
    rings = []
    lists = value if isinstance(value, list) else []
    if lists and not any(isinstance(v, list) and len(v) > 2 for v in lists):
        lists = [lists]  # one ring: numbers, or points
    for ring in lists:
        numbers = _flat(ring)
        points = list(zip(numbers[::2], numbers[1::2], strict=False))
        if points and all(abs(v) < LARGEST for point in points for v in point):
            rings.append(points)
    return rings


def _flat(value: Any) -> list[float]:
    """All numbers in lists of lists."""
    if isinstance(value, list):
        return [number for part in value for number in _flat(part)]
    return [value] if isinstance(value, int | float) else []


def _box(value: Any) -> list[tuple[float, float]]:
    """Corners of x y w h."""
    if not isinstance(value, list) or len(value) != 4 or not _numbers(value):
        return []
    x, y, w, h = value
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(v, int | float) and abs(v) < LARGEST for v in values)


def sample_picture(sample: Sample, metadata: Metadata) -> np.ndarray:
    """The first view of a sample as training sees it, its targets over it."""
    h, w = sample.sizes[0].tolist()
    image = np.ascontiguousarray(sample.views[0, :3, :h, :w].permute(1, 2, 0).numpy())
    if sample.targets is None:
        return image
    labels, shapes = sample.targets.labels, sample.targets.masks[:, 0, :h, :w]
    areas = shapes.flatten(1).sum(1)
    ids = torch.zeros(h, w, dtype=torch.int32)
    segments = []
    for i in areas.argsort(descending=True).tolist():  # small ones on top
        k, number = int(labels[i]), len(segments) + 1
        ids[shapes[i]] = number
        thing = metadata.is_thing[k]
        segments.append(PanopticSegment(number, k, thing, 1.0, int(areas[i])))
    return draw(image, Result(panoptic=Panoptic(ids, segments)), metadata)
