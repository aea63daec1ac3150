"""A few drawn images with all that is hard for a file format: holes, parts, overlaps, crowds."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORIES = [
    {"id": 3, "name": "box"},
    {"id": 7, "name": "ring with hole"},
    {"id": 9, "name": "never/seen"},
]


def rle(mask):
    """As JSON has it."""
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def rectangle(size, y0, x0, y1, x1):
    """(H, W) bool."""
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def shapes(size):
    """(category, crowd, segmentation) of an image: no two of them touch."""
    blob = rectangle(size, 2, 2, 14, 16)
    blob[5:9, 6:12] = False  # a hole
    blob[6, 8] = True  # and an island in it
    parts = rectangle(size, 18, 2, 24, 8) | rectangle(size, 24, 8, 27, 13)  # at a corner
    parts |= rectangle(size, 20, 20, 25, 23)
    polygon = [25.13, 2.5, 37.77, 3.1, 36.5, 13.9, 26.31, 11.07]
    return [
        (7, 0, rle(blob)),
        (3, 0, rle(parts)),
        (3, 0, [polygon]),
    ]


def hard_shapes(size):
    """A crowd, an overlap, two rings, and a ring that leaves the image."""
    return [
        (3, 1, rle(rectangle(size, 10, 0, 20, 10))),
        (3, 0, rle(rectangle(size, 3, 12, 17, 30))),
        (7, 0, rle(rectangle(size, 8, 20, 22, 36))),
        (3, 0, [[1, 1, 6, 1, 6, 6], [3.5, 3.5, 9, 3.5, 9, 9.25]]),
        (7, 0, [[30.5, 24, 60, 25.5, 44, 40]]),
    ]


def make_shapes(folder: Path, *, hard: bool = False) -> str:
    """Write images and a COCO JSON; returns them as a data set's path.

    Args:
        hard: with crowds and overlaps, which not every format holds.
    """
    images, annotations = [], []
    for i, (name, size) in enumerate({"a/one": (32, 40), "two": (31, 45), "empty": (8, 9)}.items()):
        file = folder / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        entry = {"id": i + 5, "file_name": f"{name}.png", "height": size[0], "width": size[1]}
        images.append(entry)
        drawn = [] if name == "empty" else shapes(size)
        if hard and name == "two":
            drawn = hard_shapes(size)
        for category, crowd, segmentation in drawn:
            entry = {"id": len(annotations) + 1, "image_id": i + 5, "category_id": category}
            annotations.append(entry | {"iscrowd": crowd, "segmentation": segmentation})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (folder / "shapes.json").write_text(json.dumps(content))
    return f"{folder}/shapes.json@{folder}/images"
