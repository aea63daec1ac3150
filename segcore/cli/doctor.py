"""What a data set holds, and what is missing, of the wrong size or no class."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from segcore.build.data import data_root
from segcore.data.catalog import Catalog
from segcore.data.images import image_size
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.structures import Frame, Metadata, PngId, Size

SHOWN = 10


def main(*, names: Sequence[str], catalogs: Sequence[Path]) -> int:
    """Examine data sets; 1 where something is wrong with one of them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    return 1 if sum(check(name, list(catalogs)) for name in names) else 0


def file_problems(frame: Frame, size: Size) -> Iterator[str]:
    """Files that are missing or of another size; only their heads are read."""
    for file in (frame.file, frame.panoptic, frame.semantic):
        if file is None:
            continue
        try:
            found = image_size(file)
        except DataError as error:
            yield str(error)
            continue
        if found != size:
            yield f"{file}: is {found} (height, width); expected {size}"


def label_problems(frame: Frame, metadata: Metadata, counts: Counter[int]) -> Iterator[str]:
    """Pixels of label images and panoptic PNGs that do not say what the annotation says.

    Args:
        counts: of classes; those of a label image are added.
    """
    numbers = [s.shape.id for s in frame.segments if isinstance(s.shape, PngId)]
    try:
        if frame.semantic is not None:
            classes = semantic_map(frame, metadata)
            if not frame.segments:
                counts.update(np.flatnonzero(np.bincount(classes[classes >= 0])).tolist())
        if numbers:
            seen = set(np.unique(frame_ids(frame)).tolist())
            if lost := [number for number in numbers if number not in seen]:
                yield f"{frame.panoptic}: has no pixel of {len(lost)} of {len(numbers)} segments"
    except DataError as error:
        yield str(error)


def report(
    metadata: Metadata, counts: Counter[int], images: int, segments: int, empty: int
) -> None:
    """Classes and how often they occur."""
    things = sum(metadata.is_thing)
    Console().print(
        f"[bold]{metadata.name}[/]: {images} images ({empty} without a segment),"
        f" {segments} segments, {things} things and"
        f" {len(metadata.classes) - things} stuff classes"
    )
    if not counts:
        return
    table = Table("class", "kind", "segments, or label images with it")
    for k, count in counts.most_common(20):
        table.add_row(metadata.classes[k], "thing" if metadata.is_thing[k] else "stuff", str(count))
    Console().print(table)
    never = [metadata.classes[k] for k in range(len(metadata.classes)) if k not in counts]
    if never:
        print(f"{len(never)} classes never occur, e.g. {', '.join(never[:5])}")


def check(name: str, catalogs: list[Path]) -> int:
    """The number of problems found in one data set."""
    catalog = Catalog(data_root(), catalogs)
    metadata, records = catalog.metadata(name), catalog.read(name)
    counts: Counter[int] = Counter()
    total, empty, found = 0, 0, []
    for record in track(records, description=f"checking {name}"):
        segments = [s for frame in record.frames for s in frame.segments]
        counts.update(s.category for s in segments)
        total += len(segments)
        empty += not segments and all(frame.semantic is None for frame in record.frames)
        for frame in record.frames:
            wrong = list(file_problems(frame, record.size))
            found += wrong or label_problems(frame, metadata, counts)
    report(metadata, counts, len(records), total, empty)
    for problem in found[:SHOWN]:
        print(f"  {problem}")
    if len(found) > SHOWN:
        print(f"  ... and {len(found) - SHOWN} more")
    print(
        f"{len(found)} problems"
        if found
        else "every file is there, has the right size, and labels that are known"
    )
    return len(found)
