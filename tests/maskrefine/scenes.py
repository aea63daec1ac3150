"""A few drawn images with annotated discs and somebody's coarse predictions of them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskrefine.hrnet import PatchNetwork, Variant
from segcore.masks import encode
from segcore.structures import Frame, Metadata, Record, Segment

SIZE = (90, 110)
METADATA = Metadata("discs", ("disc", "ring"), (3, 7), (True, True), ((255, 0, 0), (0, 0, 255)))


def disc(y, x, radius):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def square(y, x, radius):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (abs(rows - y) < radius) & (abs(columns - x) < radius)


def places(i):
    return (35 + 2 * i, 30 + i, 14), (50 - i, 75 + i, 18)


def truth(i):
    """(2, H, W) bool"""
    return np.stack([disc(*place) for place in places(i)])


def coarse(i):
    """(2, H, W) bool"""
    return np.stack([square(*place) for place in places(i)])


def make_records(folder: Path, count: int = 4) -> list[Record]:
    """Images on disk, their objects in records: one of class 0 and one of class 1 each."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for i in range(count):
        image = np.random.default_rng(i).integers(90, 110, (*SIZE, 3))
        image[truth(i).any(0)] = (220, 60, 40)
        file = folder / f"scene_{i}.png"
        Image.fromarray(image.astype(np.uint8)).save(file)
        segments = tuple(Segment(k, rle) for k, rle in enumerate(encode(truth(i))))
        records.append(Record(i + 10, SIZE, (Frame(file, segments),)))
    return records


def coco_entries(count: int = 4) -> list[dict]:
    """Predictions of all images, those of one image apart from each other."""
    entries = []
    for k, number in enumerate(METADATA.dataset_ids):
        for i in range(count):
            rle = encode(coarse(i)[k : k + 1])[0]
            entry = {"image_id": i + 10, "category_id": number, "score": 0.5 + i / 10, "note": k}
            entry["segmentation"] = {"size": list(rle["size"]), "counts": rle["counts"].decode()}
            entries.append(entry | {"bbox": [0, 0, 1, 1]})
    return entries


def quick_network() -> PatchNetwork:
    """Random and small; says inside and outside about equally often."""
    torch.manual_seed(3)
    network = PatchNetwork(Variant(32, 4, 1, (1, 1, 1), 1))
    torch.nn.init.normal_(network.decode_head.conv_seg.weight)
    return network
