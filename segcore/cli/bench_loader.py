"""Images a second and core of the training pipelines, and where the time goes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from segcore.build.data import data_root
from segcore.data.catalog import Catalog
from segcore.data.color import ColorSSD
from segcore.data.images import read_image
from segcore.data.store import Records
from segcore.data.transforms import (
    Example,
    FixedSizeCrop,
    PadTo,
    RandomCrop,
    RandomFlip,
    ResizeScale,
    ResizeShortestEdge,
)
from segcore.data.views import Transform, segments_in

LSJ: list[Transform] = [
    RandomFlip(),
    ResizeScale(min_scale=0.1, max_scale=2.0, height=1024, width=1024),
    FixedSizeCrop((1024, 1024)),
]
ADE_SIZES = tuple(int(x * 0.1 * 512) for x in range(5, 21))
ADE: list[Transform] = [
    ResizeShortestEdge(ADE_SIZES, 2048),
    RandomCrop((512, 512)),
    ColorSSD(),
    RandomFlip(),
    PadTo(512),
]
IMAGES, SEGMENTS = 118_287, 860_001  # of COCO's training set
SIZE = (480, 640)


def main(*, data: str | None, count: int, annotations: bool) -> int:
    """Print what was measured.

    Args:
        data: ANNOTATIONS@IMAGES; None: photographs of 640x480 with polygons are drawn.
        count: images of each pipeline.
        annotations: measure the start-up with a file of COCO's size instead.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        if annotations:
            start_up(Path(name))
            return 0
        records = Catalog(data_root()).read(data or drawn(Path(name)))
        table = Table("pipeline", "images/s and core", "decode", "transform", "masks")
        for title, steps in (("COCO LSJ 1024", LSJ), ("ADE20K 512", ADE)):
            time_parts(records, steps, 3)
            spent = time_parts(records, steps, count)
            parts = (spent.decode, spent.transform, spent.masks)
            shares = [f"{100 * part / spent.total():.0f} %" for part in parts]
            table.add_row(title, f"{count / spent.total():.1f}", *shares)
        Console().print(table)
    return 0


@dataclass(slots=True)
class Spent:
    """Seconds by part."""

    decode: float = 0.0
    transform: float = 0.0
    masks: float = 0.0

    def total(self) -> float:
        """All parts."""
        return self.decode + self.transform + self.masks


def time_parts(records: Records, steps: list[Transform], count: int) -> Spent:
    """Samples of `count` records, part by part, on one core."""
    spent, rng = Spent(), np.random.default_rng(0)
    for i in range(count):
        record = records[i % len(records)]
        begun = time.perf_counter()
        image = read_image(record.frames[0].file)
        decoded = time.perf_counter()
        example = Example.whole(image)
        for step in steps:
            example = step(example, rng)
        torch.from_numpy(np.ascontiguousarray(example.image.transpose(2, 0, 1)))
        changed = time.perf_counter()
        segments_in([example], record)
        spent.decode += decoded - begun
        spent.transform += changed - decoded
        spent.masks += time.perf_counter() - changed
    return spent


def polygon(rng: np.random.Generator) -> list[float]:
    """A blob of 24 corners inside the image."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, 24))
    radius = rng.uniform(20, 60) * rng.uniform(0.7, 1, 24)
    x, y = rng.uniform(60, SIZE[1] - 60), rng.uniform(60, SIZE[0] - 60)
    points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)
    return points.round(2).ravel().tolist()


def entries(images: int, segments: int) -> Iterator[dict[str, object]]:
    """Annotations, spread over the images."""
    rng = np.random.default_rng(0)
    shapes = [polygon(rng) for _ in range(200)]
    areas, boxes = [], []
    for ring in shapes:
        x, y = np.reshape(ring, (-1, 2)).T
        areas.append(float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2))
        boxes.append([x.min(), y.min(), np.ptp(x), np.ptp(y)])
    for i in range(segments):
        n = i % len(shapes)
        yield {
            "id": i,
            "image_id": i % images,
            "category_id": i % 80 + 1,
            "iscrowd": 0,
            "area": areas[n],
            "bbox": boxes[n],
            "segmentation": [shapes[n]],
        }


def write_annotations(path: Path, images: int, segments: int) -> None:
    """A COCO file, written piece by piece."""
    listed = [
        {"id": i, "file_name": f"{i:06d}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(images)
    ]
    categories = [{"id": k, "name": f"class {k}"} for k in range(1, 81)]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"images": {json.dumps(listed)}, "categories": {json.dumps(categories)},')
        file.write(' "annotations": [')
        for i, entry in enumerate(entries(images, segments)):
            file.write(("," if i else "") + json.dumps(entry))
        file.write("]}")


def drawn(folder: Path, count: int = 24) -> str:
    """Noise over gradients, as large in bytes as a photograph, and its annotation file."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        ramp = np.linspace(0, 200, SIZE[1])[None, :, None]
        pixels = (ramp + rng.integers(0, 55, (*SIZE, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:06d}.jpg", quality=85)
    write_annotations(folder / "train.json", count, 8 * count)
    return f"{folder}/train.json@{folder}/images"


def resident(pid: int) -> float:
    """Proportional set size in MB: shared pages are counted once."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def touch(records: Records, share: int) -> None:
    """What a worker does to the records: reads a quarter of them."""
    for i in range(share, len(records), 4):
        records[i]


def start_up(folder: Path) -> None:
    """Seconds until a COCO-sized file is ready, and memory over four forked workers."""
    path = folder / "train.json"
    (folder / "images").mkdir()
    Image.new("RGB", (SIZE[1], SIZE[0])).save(folder / "images" / "000000.jpg")
    write_annotations(path, IMAGES, SEGMENTS)
    begun, cpu = time.perf_counter(), time.process_time()
    records = Catalog(folder).read(f"{path}@{folder}/images")
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    children = []
    for share in range(4):
        pid = os.fork()
        if pid == 0:
            touch(records, share)
            time.sleep(8)
            os._exit(0)
        children.append(pid)
    time.sleep(7)
    total = resident(os.getpid()) + sum(map(resident, children))
    for pid in children:
        os.waitpid(pid, 0)
    print(
        f"{path.stat().st_size / 2**20:.0f} MB of JSON, {len(records)} images, {SEGMENTS} segments"
    )
    print(f"ready in {wall:.1f} s ({cpu:.1f} s of CPU); main + 4 workers: {total:.0f} MB")
