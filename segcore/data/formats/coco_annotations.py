"""What is kept of a COCO file's annotations, and which of their polygons are to be doubted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.formats.coco_file import CocoFile, ImageId, id_in, named
from segcore.data.parsing.doubtful_polygons import TOGETHER, doubtful
from segcore.data.parsing.shapes import packed
from segcore.data.parsing.values import flag, get, real, typed, whole
from segcore.structures import Size

Kept = tuple[Any, ...]  # of an annotation, as `values_of` says
SHAPE, AREA, BOX = 2, 4, 5  # places in it
Sifted = Iterable[tuple[Kept, bool]]


def values_of(path: Path) -> Callable[[Any], Kept]:
    """Of an annotation: its number, category, shape as `shapes.packed`, whether it is a crowd, its
    area, its bbox."""

    def values(entry: Any) -> Kept:
        number = id_in(entry, "id")
        what = named("annotation", number) if isinstance(entry, dict) else "an annotation"
        category = typed(entry, "category_id", whole, what, path)
        box = entry.get("bbox")
        # an object of a detection data set has a box alone
        value = entry.get("segmentation") if box else get(entry, "segmentation", what, path)
        crowd = typed(entry, "iscrowd", flag, what, path, default=False)
        area = typed(entry, "area", real, what, path, default=None)
        return number, category, packed(value), crowd, area, box

    return values


def sifted(content: CocoFile) -> Iterator[tuple[ImageId, str, Size, Sifted]]:
    """All images: id, name, size, and their annotations, each with whether it is to be doubted.

    Args:
        content: of a file that keeps what `values_of` says.
    """
    waiting: list[tuple[ImageId, str, Size, list[Kept]]] = []
    count = 0
    for image, (name, size) in content.images.items():
        kept = content.annotations(image)
        waiting.append((image, name, size, kept))
        count += 1 + len(kept)
        if count >= TOGETHER:
            yield from _sift(waiting)
            waiting, count = [], 0
    yield from _sift(waiting)


def _sift(
    images: list[tuple[ImageId, str, Size, list[Kept]]],
) -> Iterator[tuple[ImageId, str, Size, Sifted]]:
    every = [values for *_, kept in images for values in kept]
    counts = [len(kept) for *_, kept in images]
    sizes = np.repeat(np.array([size for *_, size, _ in images]), counts, 0)  # (N, 2)
    columns = ([values[place] for values in every] for place in (SHAPE, AREA, BOX))
    doubts, start = doubtful(sizes, *columns).tolist() if every else [], 0
    for (image, name, size, kept), count in zip(images, counts, strict=True):
        yield image, name, size, zip(kept, doubts[start : start + count], strict=True)
        start += count
