"""What a data set holds, and what is missing, of the wrong size or no class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from segcore.build.data import data_root
from segcore.data.catalog import Catalog
from segcore.data.doctor import Examination, examine
from segcore.structures import Metadata

SHOWN = 10  # problems of a kind


def main(*, names: Sequence[str], catalogs: Sequence[Path]) -> int:
    """Examine data sets; 1 where something is wrong with one of them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    catalog, problems = Catalog(data_root(), catalogs), 0
    for name in names:
        examination = examine(
            catalog, name, watch=lambda records: track(records, description="checking")
        )
        if examination.metadata is not None:
            report_classes(examination, examination.metadata)
        report_problems(examination)
        problems += examination.counts.total()
    return 1 if problems else 0


def report_classes(examination: Examination, metadata: Metadata) -> None:
    """Classes and how often they occur."""
    things, counts = sum(metadata.is_thing), examination.classes
    Console().print(
        f"[bold]{metadata.name}[/]: {examination.images} images ({examination.empty} without a"
        f" segment), {examination.segments} segments, {things} things and"
        f" {len(metadata.classes) - things} stuff classes"
    )
    if examination.survey:
        print("\n".join(line for _, line in examination.survey.lines()))
    if not counts:
        return
    table = Table("class", "kind", "segments, or label images with it")
    for k, count in counts.most_common(20):
        table.add_row(
            metadata.row_names[k], "thing" if metadata.is_thing[k] else "stuff", str(count)
        )
    Console().print(table)
    never = [metadata.row_names[k] for k in range(len(metadata.classes)) if k not in counts]
    if never:
        print(f"{len(never)} classes never occur, e.g. {', '.join(never[:5])}")


def report_problems(examination: Examination) -> None:
    """Each kind with its number and its first ones."""
    for kind, count in examination.counts.most_common():
        print(f"{kind}: {count}")
        for problem in examination.problems[kind][:SHOWN]:
            print(f"  {problem.message}")
        if count > SHOWN:
            print(f"  ... and {count - SHOWN} more")
    total = examination.counts.total()
    print(
        f"{total} problem{'s' if total > 1 else ''}"
        if total
        else "every file is there, has the right size, and labels that are known"
    )
