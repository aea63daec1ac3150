"""One page of HTML that needs nothing beside it: what was found, with pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from segcore.doctor.finding import SEVERITIES, Finding
from segcore.html_page import Picture, figures, html_page
from segcore.structures import Metadata

MOST_BARS = 100  # classes that are shown


@dataclass(slots=True)
class Chapter:
    """One data set.

    Args:
        title: its name, and what it holds.
        counts: objects, or label images, of each class.
        findings: each with its pictures.
        samples: as training sees them.
        sampled: what they are.
    """

    title: str
    metadata: Metadata | None = None
    counts: Counter[int] = field(default_factory=Counter[int])
    findings: list[tuple[Finding, list[Picture]]] = field(default_factory=list[tuple])
    samples: list[Picture] = field(default_factory=list[Picture])
    sampled: str = ""


def page(chapters: Sequence[Chapter]) -> str:
    """All data sets; every text from outside is escaped."""
    findings = [finding for chapter in chapters for finding, _ in chapter.findings]
    body = "\n".join(part for chapter in chapters for part in _chapter(chapter))
    return html_page("segcore doctor", "What the doctor found", f"{_summary(findings)}\n{body}")


def _summary(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing is wrong.</p>"
    rows = "\n".join(
        f'<tr><td class="{f.severity}">{f.severity}</td><td>{escape(f.check)}</td>'
        f'<td>{escape(f.data)}</td><td class="number">{f.count}</td>'
        f"<td>{escape(f.cases[0].message) if f.cases else ''}</td></tr>"
        for f in sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), -f.count))
    )
    head = "<tr><th></th><th>check</th><th>data set</th><th>count</th><th>example</th></tr>"
    return f"<table>{head}\n{rows}</table>"


def _chapter(chapter: Chapter) -> Iterator[str]:
    yield f"<h2>{escape(chapter.title)}</h2>"
    for finding, pictures in chapter.findings:
        yield (
            f'<h3><span class="{finding.severity}">{finding.severity}</span>'
            f" {escape(finding.check)}: {finding.count}</h3>"
        )
        if finding.advice:
            yield f'<p class="advice">{escape(finding.advice)}</p>'
        yield from figures(pictures)
    if chapter.samples:
        yield f"<h3>{escape(chapter.sampled)}</h3>"
        yield from figures(chapter.samples)
    if chapter.metadata is not None and chapter.counts:
        yield "<h3>Classes</h3>"
        yield from _bars(chapter.counts, chapter.metadata)


def _bars(counts: Counter[int], metadata: Metadata) -> Iterator[str]:
    largest, total = max(counts.values()), counts.total()
    yield "<table>"
    for k, count in counts.most_common(MOST_BARS):
        yield (
            f'<tr><td>{escape(metadata.row_names[k])}</td><td class="number">{count}</td>'
            f'<td class="number">{100 * count / total:.1f} %</td><td style="width:50%">'
            f'<span class="bar" style="width:{100 * count / largest:.1f}%"></span></td></tr>'
        )
    yield "</table>"
    if len(counts) > MOST_BARS:
        yield f"<p>and {len(counts) - MOST_BARS} classes more</p>"
