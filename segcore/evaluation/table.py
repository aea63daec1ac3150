"""Metrics for people."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table


def format_table(results: dict[str, float], title: str = "") -> str:
    """Overall numbers in one row, classes below: plain text."""
    overall = {k: v for k, v in results.items() if "-" not in k}
    kinds: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        kind, dash, label = name.partition("-")
        if dash:
            kinds.setdefault(label, {})[kind] = value
    console = Console(width=120, record=True, file=io.StringIO())
    head = Table(*overall, title=title)
    head.add_row(*(f"{v:.2f}" for v in overall.values()))
    console.print(head)
    columns = list(dict.fromkeys(kind for values in kinds.values() for kind in values))
    if len(kinds) > 1:
        classes = Table("class", *columns)
        for label, values in kinds.items():
            row = (f"{values[c]:.2f}" if c in values else "" for c in columns)
            classes.add_row(label, *row)
        console.print(classes)
    return console.export_text()
