"""What a data set holds, and what is missing or of the wrong size, before a training finds out.

python tools/check_data.py coco_2017_val my/train.json@my/images [--catalogs my/parts.yaml]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from segcore.build import data_root
from segcore.data.catalog import load_dataset
from segcore.data.sources import image_size
from segcore.errors import DataError
from segcore.structures import Metadata, Record

SHOWN = 10


def problems(record: Record) -> Iterator[str]:
    """What is wrong with the files of a record; pixels are not read."""
    for frame in record.frames:
        for file in (frame.file, frame.panoptic, frame.semantic):
            if file is None:
                continue
            try:
                size = image_size(file)
            except DataError as error:
                yield str(error)
                continue
            if size != record.size:
                yield f"{file}: is {size} (height, width); expected {record.size}"


def report(metadata: Metadata, counts: Counter[int], images: int, empty: int) -> None:
    """Classes and how often they occur."""
    things = sum(metadata.is_thing)
    Console().print(
        f"[bold]{metadata.name}[/]: {images} images ({empty} without a segment),"
        f" {sum(counts.values())} segments, {things} things and"
        f" {len(metadata.classes) - things} stuff classes"
    )
    if not counts:
        return
    table = Table("class", "kind", "segments")
    for k, count in counts.most_common(20):
        table.add_row(metadata.classes[k], "thing" if metadata.is_thing[k] else "stuff", str(count))
    Console().print(table)
    never = [metadata.classes[k] for k in range(len(metadata.classes)) if k not in counts]
    if never:
        print(f"{len(never)} classes never occur, e.g. {', '.join(never[:5])}")


def check(name: str, catalogs: list[Path]) -> int:
    """The number of problems found in one data set."""
    metadata, records = load_dataset(name, data_root(), catalogs)
    counts: Counter[int] = Counter()
    empty, found = 0, []
    for record in track(records, description=f"checking {name}"):
        segments = [s for frame in record.frames for s in frame.segments]
        counts.update(s.category for s in segments)
        empty += not segments and all(frame.semantic is None for frame in record.frames)
        found += problems(record)
    report(metadata, counts, len(records), empty)
    for problem in found[:SHOWN]:
        print(f"  {problem}")
    if len(found) > SHOWN:
        print(f"  ... and {len(found) - SHOWN} more")
    print(f"{len(found)} problems" if found else "every file is there and has the right size")
    return len(found)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="names of the catalogue, or paths")
    parser.add_argument("--catalogs", nargs="*", type=Path, default=[])
    args = parser.parse_args()
    try:
        sys.exit(1 if sum(check(name, args.catalogs) for name in args.names) else 0)
    except DataError as error:
        sys.exit(f"error: {error}")
