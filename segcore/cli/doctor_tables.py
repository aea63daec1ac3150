"""What the doctor found, as it is printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from segcore.data.doctor import Examination
from segcore.data.survey import how_many
from segcore.doctor.finding import Finding, by_severity
from segcore.structures import Metadata

SHOWN, FIRST = 10, 4  # problems of a kind; cases of another finding
LONGEST = 64  # letters of an example
FOLDERS = re.compile(r"(?<!\S)\S*/")
STYLES = {"error": "bold red", "warning": "yellow", "note": ""}


def report_classes(examination: Examination, metadata: Metadata) -> None:
    """Classes and how often they occur."""
    things, counts = sum(metadata.is_thing), examination.classes
    size = how_many(examination.images, examination.frames)
    print(
        f"{metadata.name}: {size} ({examination.empty} without a"
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
            Text(metadata.row_names[k]), "thing" if metadata.is_thing[k] else "stuff", str(count)
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


def report_total(problems: int) -> None:
    """The last line."""
    if problems:
        print(f"{problems} problem{'s' if problems > 1 else ''}")
    else:
        print("every file is there, has the right size, and labels that are known")


def report_more(findings: Sequence[Finding]) -> None:
    """What no reader reports, with its first cases and what to do."""
    for found in by_severity(findings):
        print(f"{found.check}: {found.count}" + (f" ({found.advice})" if found.advice else ""))
        for case in found.cases[:FIRST]:
            print(f"  {case.message}")
        if found.count > FIRST and len(found.cases) > 1:
            print(f"  ... and {found.count - FIRST} more")


def report_findings(findings: Sequence[Finding]) -> None:
    """All of them in one table."""
    if not findings:
        return
    console = Console()
    if not console.is_terminal:  # a log file
        console = Console(width=140)
    heads = ("severity", "check", "data set", "count", "example")
    table = Table(*(Column(head, overflow="fold") for head in heads))
    for found in by_severity(findings):
        example = brief(found.cases[0].message) if found.cases else ""
        cells = (found.check, short(found.data), str(found.count), example)
        severity = Text(found.severity, STYLES[found.severity])
        table.add_row(severity, *(Text(cell) for cell in cells))
    console.print(table)


def brief(message: str) -> str:
    """Its beginning, files without their folders."""
    plain = FOLDERS.sub("", message)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def short(name: str) -> str:
    """The end of a path."""
    return "/".join(Path(name.partition("@")[0]).parts[-2:])
