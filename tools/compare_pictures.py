"""Pictures of one object as several models see it, its edge enlarged.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segcore import masks
from segcore.data.images import read_image
from segcore.evaluation.writers import write_png
from segcore.painting import side_by_side
from segcore.segment_rle import to_rle
from segcore.structures import Record, Rle

SIDE = 256  # pixels of each picture
LEAST_OVERLAP = 0.5  # intersection over union from which a prediction is of the object


def masks_by_image(results: Path) -> dict[int | str, list[Rle]]:
    """Masks of a COCO results file, best first."""
    found: dict[int | str, list[tuple[float, Rle]]] = {}
    for entry in json.loads(results.read_text()):
        shape = entry["segmentation"]
        rle = Rle(size=shape["size"], counts=shape["counts"].encode())
        found.setdefault(entry["image_id"], []).append((entry["score"], rle))
    return {
        image: [rle for _, rle in sorted(rows, key=lambda row: -row[0])]
        for image, rows in found.items()
    }


def draw_comparison(
    records: Sequence[Record], results: Mapping[str, Path], folder: Path, count: int = 6
) -> list[Path]:
    """`count` pictures: the image, the truth, and what each file of results has of an object.

    Args:
        results: COCO results by the name that stands above them; the first one's are the coarse
            masks.
    """
    predictions = {name: masks_by_image(path) for name, path in results.items()}
    written: list[Path] = []
    for record in records:
        chosen = _object_of(record, [found.get(record.id, []) for found in predictions.values()])
        if chosen is None:
            continue
        image = read_image(record.frames[0].file)
        shapes = dict(zip(["truth", *predictions], chosen, strict=True))
        window = _window(masks.decode(chosen[0]), image.shape[:2])
        pictures = [_enlarged(image, None, window)]
        pictures += [_enlarged(image, masks.decode(rle), window) for rle in shapes.values()]
        written.append(folder / f"{record.frames[0].file.stem}.png")
        write_png(written[-1], side_by_side(pictures, ["image", *shapes]))
        if len(written) == count:
            break
    return written


def _object_of(record: Record, predictions: Sequence[list[Rle]]) -> list[Rle] | None:
    """The largest object that every model has found: its true mask, then each one's."""
    frame = record.frames[0]
    truths = [to_rle(s, frame, record.size) for s in frame.segments if not s.crowd]
    for truth in sorted(truths, key=lambda rle: -float(masks.area([rle])[0])):
        best = [_nearest(truth, rles) for rles in predictions]
        matched = [rle for rle in best if rle is not None]
        if len(matched) == len(best):
            return [truth, *matched]
    return None


def _nearest(truth: Rle, rles: list[Rle]) -> Rle | None:
    """The mask that overlaps most, if it does so by half."""
    if not rles:
        return None
    overlaps = masks.coco_mask.iou(rles, [truth], [0])[:, 0]
    i = int(overlaps.argmax())
    return rles[i] if overlaps[i] >= LEAST_OVERLAP else None


def _window(mask: np.ndarray, size: Sequence[int]) -> tuple[int, int, int]:
    """Top, left and side of a square around the object's topmost edge, a third of its height."""
    ys, xs = np.nonzero(mask)
    side = int(max(24, min(max(np.ptp(ys), np.ptp(xs)) * 0.7, *size)))
    y, x = int(ys.min()) + side // 3, int(xs[ys == ys.min()].mean())
    top = min(max(y - side // 2, 0), size[0] - side)
    left = min(max(x - side // 2, 0), size[1] - side)
    return top, left, side


def _enlarged(
    image: np.ndarray, mask: np.ndarray | None, window: tuple[int, int, int]
) -> np.ndarray:
    """The window at SIDE pixels, with the mask's outline in yellow: (SIDE, SIDE, 3) uint8."""
    top, left, side = window
    part = (slice(top, top + side), slice(left, left + side))
    picture = np.array(Image.fromarray(image[part]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    if mask is None:
        return picture
    cells = np.arange(SIDE) * side // SIDE
    large = mask[part][cells[:, None], cells]  # (SIDE, SIDE)
    inner = large.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner &= np.roll(large, step, axis)
    picture[large & ~inner] = (255, 220, 0)
    return picture
