"""A data set in another file format, and what was lost on the way."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from segcore.build.data import data_root
from segcore.cli.doctor_tables import report_problems, report_total
from segcore.data.catalog import Catalog
from segcore.data.conversion import convert
from segcore.data.doctor import Examination
from segcore.data.formats.format import Goal
from segcore.data.formats.table import all_formats
from segcore.data.problem import Problem
from segcore.errors import ConfigError


def main(
    *, name: str, output: Path, format: str, split: str, link: bool, catalogs: Sequence[Path]
) -> int:
    """Convert; 1 where something is wrong with the source."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    written = {each.name: each for each in all_formats() if each.write is not None}
    if format not in written:
        raise ConfigError(f"--to {format}: cannot be written; there are {', '.join(written)}")
    if not split or Path(split).name != split:
        raise ConfigError(f"--split {split!r}: expected a word, such as train or val")
    goal, seen, faults = Goal(folder=output, split=split), Examination(), list[Problem]()

    def note(problem: Problem) -> None:
        seen.add(problem)
        if problem.effect == "fault" and not faults:
            faults.append(problem)

    converted = convert(
        Catalog(data_root(), catalogs),
        name,
        format=written[format],
        goal=goal,
        problem=note,
        link=link,
    )
    print(f"{converted.path}: {converted.images} images, {converted.segments} segments")
    for what, count in goal.lost.most_common():
        print(f"  lost: {count} {what}")
    if seen.counts:
        report_problems(seen)
        report_total(seen.counts.total())
    if not faults:
        print(f"look at it: {shlex.join(['segcore', 'doctor', str(converted.path)])}")
    return 1 if faults else 0
