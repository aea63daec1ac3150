"""Masks painted over images, and what is written on them.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segcore import masks
from segcore.label_font import label_font
from segcore.segment_colors import Color
from segcore.structures import Rle


def draw_masks(
    image: np.ndarray, rows: Sequence[tuple[Rle, Color, str]], *, alpha: float = 0.55
) -> np.ndarray:
    """The image (H, W, 3) uint8 under masks, each with a colour and a text; the first on top."""
    canvas = image.copy()
    return write_labels(canvas, paint_masks(canvas, rows, alpha))


def paint_masks(
    canvas: np.ndarray, rows: Sequence[tuple[Rle, Color, str]], alpha: float
) -> list[tuple[str, np.ndarray]]:
    """Masks with their colours and what is written on them, best first; the best on top."""
    names = []
    for rle, color, text in reversed(rows):  # one mask is decoded at a time
        mask = masks.decode(rle)
        if not mask.any():
            continue
        canvas[mask] = canvas[mask] * (1 - alpha) + np.array(color) * alpha
        outline(canvas, mask)
        if mask.mean() > 0.002 or len(rows) < 8:
            names.append((text, middle(mask)))
    return names if len(names) <= 40 else []


def outline(canvas: np.ndarray, regions: np.ndarray) -> None:
    """White where two regions meet."""
    edge = np.zeros(regions.shape, bool)
    edge[:-1] |= regions[:-1] != regions[1:]
    edge[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    canvas[edge] = 255


def middle(mask: np.ndarray) -> np.ndarray:
    """A point inside the mask, near its middle: (2,) x y."""
    ys, xs = np.nonzero(mask)
    nearest = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
    return np.array([xs[nearest], ys[nearest]])


def write_labels(canvas: np.ndarray, labels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
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
