"""Eight small drawn images in every annotation form, for tests that run the real thing."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORIES = [
    {"id": 3, "name": "box", "isthing": 1},
    {"id": 7, "name": "disc", "isthing": 1},
    {"id": 9, "name": "ground", "isthing": 0},
]
CATALOG = """- reader: coco_panoptic
  evaluators: [panoptic, instance, semantic]
  names:
    tiny_panoptic: {images: images, annotations: panoptic.json, panoptic: panoptic}
- reader: coco_instances
  evaluators: [instance, boundary]
  names:
    tiny_instances: {images: images, annotations: instances.json}
- reader: label_png
  evaluators: [semantic]
  classes: [box, disc, ground]
  names:
    tiny_semantic: {images: images, annotations: labels}
"""


def scene(rng, height, width):
    """A picture, its ids (0: void) and the category of each id."""
    image = rng.integers(90, 110, (height, width, 3))
    ids = np.ones((height, width), np.int32)
    category = {1: 9}
    y, x = np.mgrid[:height, :width]
    for i, kind in enumerate(rng.permutation([3, 7]), 2):
        cy, cx = rng.integers(16, height - 16), rng.integers(16, width - 16)
        radius = int(rng.integers(9, 14))
        if kind == 3:
            inside = (abs(y - cy) < radius) & (abs(x - cx) < radius)
        else:
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        image[inside] = (220, 40, 40) if kind == 3 else (40, 40, 220)
        ids[inside] = i
        category[i] = int(kind)
    ids[:2] = 0
    return image.astype(np.uint8), ids, {i: k for i, k in category.items() if (ids == i).any()}


def make_dataset(folder: Path, count: int = 8) -> Path:
    """Write the data set; returns its catalogue file."""
    for name in ("images", "panoptic", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, panoptic, instances = [], [], []
    for i in range(count):
        height, width = (64, 80) if i % 2 else (72, 64)
        image, ids, category = scene(np.random.default_rng(i), height, width)
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        png = np.stack([ids, ids * 0, ids * 0], 2).astype(np.uint8)
        Image.fromarray(png).save(folder / "panoptic" / f"{i:02d}.png")
        labels = np.full(ids.shape, 255, np.uint8)
        for number, kind in category.items():
            labels[ids == number] = [c["id"] for c in CATEGORIES].index(kind)
        Image.fromarray(labels).save(folder / "labels" / f"{i:02d}.png")
        images.append({"id": i, "file_name": f"{i:02d}.png", "height": height, "width": width})
        found = [{"id": n, "category_id": k, "iscrowd": 0} for n, k in category.items()]
        panoptic.append({"image_id": i, "file_name": f"{i:02d}.png", "segments_info": found})
        for number, kind in category.items():
            if kind == 9:
                continue
            rle = coco_mask.encode(np.asfortranarray(ids == number, dtype=np.uint8))
            entry = {"id": len(instances) + 1, "image_id": i, "category_id": kind, "iscrowd": 0}
            entry |= {"area": int((ids == number).sum())}
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
            instances.append(entry | {"segmentation": rle})
    things = [c for c in CATEGORIES if c["isthing"]]
    for name, annotations, categories in (
        ("panoptic.json", panoptic, CATEGORIES),
        ("instances.json", instances, things),
    ):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / name).write_text(json.dumps(content))
    (folder / "tiny.yaml").write_text(CATALOG)
    return folder / "tiny.yaml"
