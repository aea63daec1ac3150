"""Metrics for people."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

PER_ROW = 10  # columns that fit a terminal


def format_table(results: dict[str, float], title: str = "") -> str:
    """Overall numbers first, classes below: plain text."""
    overall = {k: v for k, v in results.items() if "-" not in k}
    kinds: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        kind, dash, label = name.partition("-")
        if dash:
            kinds.setdefault(label, {})[kind] = value
    console = Console(width=120, record=True, file=io.StringIO())
    for start in range(0, len(overall), PER_ROW):
        part = list(overall.items())[start : start + PER_ROW]
        head = Table(*(name for name, _ in part), title=title if start == 0 else None)
        head.add_row(*(f"{value:.2f}" for _, value in part))
        console.print(head)
    columns = list(dict.fromkeys(kind for values in kinds.values() for kind in values))
    if len(kinds) > 1:
        classes = Table("class", *columns)
        for label, values in kinds.items():
            row = (f"{values[c]:.2f}" if c in values else "" for c in columns)
            classes.add_row(label, *row)
        console.print(classes)
    return console.export_text()
