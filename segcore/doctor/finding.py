"""What a check says: how bad, how often, and where it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segcore.data.problem import Problem

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
KEPT = 12  # cases of a finding: nobody looks at more pictures
OF_EFFECT: dict[str, Severity] = {"fault": "error", "loss": "warning", "oddity": "note"}
MILD: dict[str, Severity] = {
    "one answer is always right": "warning"
}  # a training says it, and goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One place where a finding shows.

    Args:
        message: what is there, for people.
        image: id of the record, where there is one.
        annotation: number of the entry in its file, where there is one.
        segment: index of a segment of the record's first frame.
        files: images to show where no record says which: one, or two that are alike.
    """

    message: str
    image: int | str | None = None
    annotation: int | str | None = None
    segment: int | None = None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check has found in one data set.

    Args:
        data: name of the data set.
        count: how often it is there.
        cases: the first of them, at most KEPT.
        advice: what to do.
    """

    severity: Severity
    check: str
    data: str
    count: int
    cases: tuple[Case, ...] = ()
    advice: str = ""


def finding(
    severity: Severity,
    check: str,
    data: str,
    cases: Sequence[Case],
    *,
    count: int | None = None,
    advice: str = "",
) -> Finding:
    """Of all its cases, or of the first of `count`."""
    number = len(cases) if count is None else count
    kept = tuple(cases[:KEPT])
    return Finding(
        severity=severity, check=check, data=data, count=number, cases=kept, advice=advice
    )


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, of equal ones the most frequent."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), -f.count))


def status(findings: Iterable[Finding], *, strict: bool) -> int:
    """What a program ends with: 1 where there is an error, or a warning that counts as one."""
    bad = SEVERITIES[: 2 if strict else 1]
    return int(any(f.severity in bad for f in findings))


def findings_of(
    counts: Counter[str], problems: Mapping[str, Sequence[Problem]], data: str
) -> Iterator[Finding]:
    """What was met while reading, kind by kind.

    Args:
        counts: problems of each kind.
        problems: the first of each kind.
    """
    for kind, count in counts.most_common():
        severities: set[Severity] = {OF_EFFECT[problem.effect] for problem in problems[kind]}
        worst = min(severities, key=SEVERITIES.index)
        cases = [_case(problem) for problem in problems[kind][:KEPT]]
        yield finding(MILD.get(kind, worst), kind, data, cases, count=count)


def _case(problem: Problem) -> Case:
    return Case(message=problem.message, image=problem.image, annotation=problem.annotation)
