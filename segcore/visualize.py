"""Pictures of results.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from segcore import masks
from segcore.evaluation.panoptic import truth_map
from segcore.label_font import label_font
from segcore.labels import semantic_map
from segcore.structures import (
    Instances,
    Metadata,
    Panoptic,
    PanopticSegment,
    Record,
    Result,
    Rle,
)
from segcore.video.stream import TrackedFrame

Color = tuple[int, int, int]


def draw(
    image: np.ndarray,
    result: Result,
    metadata: Metadata,
    *,
    threshold: float = 0.5,
    alpha: float = 0.55,
) -> np.ndarray:
    """The image (H, W, 3) uint8 under what was found: panoptic, else semantic and instances."""
    canvas = image.copy()
    labels: list[tuple[str, np.ndarray]] = []
    if result.panoptic is not None:
        labels = _paint_panoptic(canvas, result.panoptic, metadata, alpha)
    else:
        if result.semantic is not None:
            labels += _paint_semantic(canvas, result.semantic.numpy(), metadata, alpha)
        if result.instances is not None:
            labels += _paint_instances(canvas, result.instances, metadata, threshold, alpha)
    return _write(canvas, labels)


def _paint_panoptic(
    canvas: np.ndarray, panoptic: Panoptic, metadata: Metadata, alpha: float
) -> list[tuple[str, np.ndarray]]:
    ids = panoptic.map.numpy()
    size = max([int(ids.max(initial=0)), *(s.id for s in panoptic.segments)], default=0) + 1
    colors = np.zeros((size, 3), np.float32)
    strength = np.zeros(size, np.float32)
    for i, s in enumerate(panoptic.segments):
        colors[s.id] = _distinct(i) if s.is_thing else metadata.colors[s.category]
        strength[s.id] = alpha
    for rows in _strips(len(canvas)):
        weight = strength[ids[rows]][..., None]
        canvas[rows] = canvas[rows] * (1 - weight) + colors[ids[rows]] * weight
    _outline(canvas, ids)
    names = []
    if len(metadata.classes) == 1:  # the same word everywhere says nothing
        return names
    for s in panoptic.segments:
        if s.area > 0.004 * ids.size:
            names.append((metadata.classes[s.category], _middle(ids == s.id)))
    return names


def _paint_semantic(
    canvas: np.ndarray, classes: np.ndarray, metadata: Metadata, alpha: float
) -> list[tuple[str, np.ndarray]]:
    colors = np.asarray(metadata.colors, np.float32)
    for rows in _strips(len(canvas)):
        canvas[rows] = canvas[rows] * (1 - alpha) + colors[classes[rows]] * alpha
    _outline(canvas, classes)
    found, counts = np.unique(classes, return_counts=True)
    big = found[counts > 0.02 * classes.size]
    return [(metadata.classes[k], _middle(classes == k)) for k in big]


def _paint_instances(
    canvas: np.ndarray, found: Instances, metadata: Metadata, threshold: float, alpha: float
) -> list[tuple[str, np.ndarray]]:
    rows = [
        (rle, _distinct(i), f"{metadata.classes[label]} {100 * score:.0f}%")
        for i, (rle, score, label) in enumerate(
            zip(found.masks, found.scores.tolist(), found.labels.tolist(), strict=True)
        )
        if score >= threshold
    ]
    return _paint_masks(canvas, rows, alpha)


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
            color = _distinct(number) if metadata.is_thing[label] else metadata.colors[label]
            text = f"[{number}] {metadata.classes[label]} {100 * score:.0f}%"
            painted.append((rle, color, text))
    return _write(canvas, _paint_masks(canvas, painted, alpha))


def _paint_masks(
    canvas: np.ndarray, rows: Sequence[tuple[Rle, Color, str]], alpha: float
) -> list[tuple[str, np.ndarray]]:
    """Masks with their colours and what is written on them, best first; the best on top."""
    names = []
    for rle, color, text in reversed(rows):  # one mask is decoded at a time
        mask = masks.decode(rle)
        if not mask.any():
            continue
        canvas[mask] = canvas[mask] * (1 - alpha) + np.array(color) * alpha
        _outline(canvas, mask)
        if mask.mean() > 0.002 or len(rows) < 8:
            names.append((text, _middle(mask)))
    return names if len(names) <= 40 else []


def _strips(height: int) -> list[slice]:
    """A photograph of 50 megapixels is never held in floating point as a whole."""
    return [slice(y, y + 256) for y in range(0, height, 256)]


def _outline(canvas: np.ndarray, regions: np.ndarray) -> None:
    """White where two regions meet."""
    edge = np.zeros(regions.shape, bool)
    edge[:-1] |= regions[:-1] != regions[1:]
    edge[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    canvas[edge] = 255


def _middle(mask: np.ndarray) -> np.ndarray:
    """A point inside the mask, near its middle: (2,) x y."""
    ys, xs = np.nonzero(mask)
    nearest = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    return np.array([xs[nearest], ys[nearest]])


def _distinct(i: int) -> Color:
    """Colours of neighbours in a list lie far apart."""
    hue, value = i * 0.618034 % 1, (0.95, 0.75, 0.85)[i % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def _write(canvas: np.ndarray, labels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    size = max(9, min(canvas.shape[:2]) // 32)
    for label, (x, y) in labels:
        font, text = label_font(label, size)
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        half_w, half_h = (right - left) / 2, (bottom - top) / 2
        x = min(max(int(x), half_w + 2), canvas.shape[1] - half_w - 2)
        y = min(max(int(y), half_h + 2), canvas.shape[0] - half_h - 2)
        box = (x - half_w - 2, y - half_h - 2, x + half_w + 2, y + half_h + 2)
        pen.rectangle(box, fill=(20, 20, 20))
        pen.text((x - half_w - left, y - half_h - top), text, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


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


def side_by_side(images: Sequence[np.ndarray], titles: Sequence[str], gap: int = 6) -> np.ndarray:
    """Images of one height in a row, a title above each."""
    bar = 18
    height = max(image.shape[0] for image in images) + bar
    width = sum(image.shape[1] for image in images) + gap * (len(images) - 1)
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    pen, x = ImageDraw.Draw(picture), 0
    font = ImageFont.load_default(size=12)
    for image, title in zip(images, titles, strict=True):
        picture.paste(Image.fromarray(image), (x, bar))
        pen.text((x + 2, 2), title, fill=(0, 0, 0), font=font)
        x += image.shape[1] + gap
    return np.asarray(picture)
