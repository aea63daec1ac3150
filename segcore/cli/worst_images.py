"""The images of a data set that need the most memory, found by their sizes, and drawn anew.

Legend of one-letter names: N segments, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore.config import Config
from segcore.contracts import Task
from segcore.data.store import Records
from segcore.data.transforms import shortest_edge
from segcore.structures import Batch, Frame, Polygons, Record, Sample, Segment, Size


@dataclass(frozen=True, slots=True)
class Images:
    """What the files of a batch are like."""

    sizes: tuple[Size, ...]
    segments: tuple[int, ...]  # of each file; 0 at test time
    frames: int = 1  # of a video at test time

    def __str__(self) -> str:
        sizes = ", ".join(f"{h}x{w}" for h, w in dict.fromkeys(self.sizes))
        frames = f" of {self.frames} frames" if self.frames > 1 else ""
        most = f", up to {max(self.segments)} segments" if any(self.segments) else ""
        return f"{len(self.sizes)} x {sizes}{frames}{most}"


class Largest(np.random.Generator):
    """Draws the largest number there is, so that an image is resized to the largest size."""

    def integers(self, low: int, high: int | None = None, *rest: Any, **more: Any) -> Any:
        """One below the end."""
        return (low if high is None else high) - 1

    def uniform(self, low: float = 0.0, high: float = 1.0, *rest: Any, **more: Any) -> Any:
        """The end."""
        return high


def train_size(cfg: Config, size: Size) -> Size:
    """What is left of an image (H, W) at the largest size of training, before padding."""
    data = cfg.INPUT
    if data.DATASET_MAPPER_NAME.endswith("_lsj"):
        return data.IMAGE_SIZE, data.IMAGE_SIZE
    sizes = data.MIN_SIZE_TRAIN
    edge = sizes if isinstance(sizes, int) else max(sizes)
    height, width = shortest_edge(*size, edge=edge, longest=data.MAX_SIZE_TRAIN)
    if data.CROP.ENABLED and data.CROP.TYPE == "absolute":
        return min(height, int(data.CROP.SIZE[0])), min(width, int(data.CROP.SIZE[1]))
    return height, width


def worst_train(cfg: Config, task: Task, records: Records, count: int) -> Images:
    """The batch of `count` images that is padded to the most pixels, with the most segments.

    The tallest and the widest image of a batch say what it is padded to; DATALOADER's
    ASPECT_RATIO_GROUPING keeps wide images by themselves.
    """
    sizes = [(int(h), int(w)) for h, w in np.unique(records.sizes, axis=0)]
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING and count > 1
    groups = [[s for s in sizes if (s[1] > s[0]) == wide] for wide in (False, True)]
    largest, worst = 0, sizes[:1]
    for group in groups if grouped else [sizes]:
        seen = {size: train_size(cfg, size) for size in group}
        if not seen:
            continue
        tallest = max(group, key=lambda size: seen[size])
        widest = max(group, key=lambda size: seen[size][::-1])
        if count == 1:
            tallest = widest = max(group, key=lambda size: seen[size][0] * seen[size][1])
        if (area := seen[tallest][0] * seen[widest][1]) > largest:
            largest, worst = area, [tallest, widest]
    if task.needs == "labels":  # which of them a label image has, its pixels alone say
        most = [len(task.metadata.classes)] * count
    else:
        most = sorted(map(_objects, records), reverse=True)
        if (paste := cfg.INPUT.COPY_PASTE).PROBABILITY:
            most = [number + min(most[0], paste.OBJECTS) for number in most]
    chosen = [worst[i % len(worst)] for i in range(count)]
    return Images(tuple(chosen), tuple(most[i % len(most)] for i in range(count)))


def worst_tests(cfg: Config, task: Task, records: Records) -> list[Images]:
    """Batches of the image that is largest for the model, and of the largest file, if it differs.

    Results are made at the size of the file.
    """
    count = 1 if task.clips else cfg.TEST.BATCH_SIZE
    edge, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    shapes = np.column_stack([records.sizes, records.frames])
    files = [(int(h), int(w), int(t)) for h, w, t in np.unique(shapes, axis=0)]

    def pixels(file: tuple[int, int, int]) -> int:
        return file[0] * file[1] * file[2]

    def seen(file: tuple[int, int, int]) -> tuple[int, int]:
        height, width = shortest_edge(file[0], file[1], edge=edge, longest=longest)
        return height * width * file[2], pixels(file)

    worst = dict.fromkeys((max(files, key=seen), max(files, key=pixels)))
    return [Images(((h, w),) * count, (0,) * count, t) for h, w, t in worst]


def drawn_batch(task: Task, images: Images, folder: Path, *, train: bool) -> Batch:
    """Noise of these sizes, as training or the test sees it.

    Args:
        folder: for its files.
    """
    rng = Largest(np.random.PCG64(0)) if train else None
    samples: dict[tuple[Size, int], Sample] = {}
    for key in set(zip(images.sizes, images.segments, strict=True)):
        sample = task.views(_drawn(task, *key, images.frames, folder), rng)
        assert sample is not None
        samples[key] = sample
    return Batch.collate([samples[key] for key in zip(images.sizes, images.segments, strict=True)])


def _objects(record: Record) -> int:
    """Segments of a still, tracks of a video; crowds are no targets."""
    return len(
        {
            i if segment.track is None else segment.track
            for frame in record.frames
            for i, segment in enumerate(frame.segments)
            if not segment.crowd
        }
    )


def _drawn(task: Task, size: Size, count: int, frames: int, folder: Path) -> Record:
    """Every segment fills the image: whatever is cut out of it has them all."""
    (H, W), rng, classes = size, np.random.default_rng(0), len(task.metadata.classes)
    file, labels = (folder / f"{name}{H}x{W}.png" for name in ("", "labels"))
    Image.fromarray(rng.integers(0, 256, (H, W, 3), np.uint8)).save(file, compress_level=0)
    if task.needs == "labels":
        values = np.array(sorted(task.metadata.label_map or range(classes)))
        kind = np.uint8 if values.max() < 256 else np.uint16
        Image.fromarray(rng.choice(values, size).astype(kind)).save(labels)
        return Record("drawn", size, (Frame(file, semantic=labels),) * frames)
    shape = Polygons(((0.0, 0.0, W, 0.0, W, H, 0.0, H),))
    segments = tuple(Segment(i % classes, shape, track=i) for i in range(count))
    return Record("drawn", size, (Frame(file, segments),) * frames)
