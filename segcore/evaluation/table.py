"""Metrics for people."""

from __future__ import annotations

import io
import math
import sys

from rich.console import Console
from rich.table import Table

WIDTH = 120  # characters
PER_ROW = 10  # overall numbers that fit


def format_table(results: dict[str, float], title: str = "") -> str:
    """Overall numbers first, classes below, side by side as far as they fit: plain text.

    Its lines are of signs that the console has.
    """
    nowhere = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8")
    console = Console(width=WIDTH, file=nowhere, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        overall = [(name, value) for name, value in results.items() if "-" not in name]
        for start in range(0, len(overall), PER_ROW):
            part = overall[start : start + PER_ROW]
            head = Table(*(name for name, _ in part), title=title if start == 0 else None)
            head.add_row(*(_number(value) for _, value in part))
            console.print(head)
        classes = _by_class(results)
        if len(classes) > 1:
            console.print(_class_table(classes))
    return capture.get()


def _by_class(results: dict[str, float]) -> dict[str, dict[str, float]]:
    """{"AP-cat": 5, "PQ-cat": 6} -> {"cat": {"AP": 5, "PQ": 6}}."""
    classes: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        kind, dash, label = name.partition("-")
        if dash:
            classes.setdefault(label, {})[kind] = value
    return classes


def _class_table(classes: dict[str, dict[str, float]]) -> Table:
    kinds = list(dict.fromkeys(kind for values in classes.values() for kind in values))
    width = max(len("class"), *(len(label) for label in classes))
    block = width + 3 + sum(max(len(kind), len("100.00")) + 3 for kind in kinds)
    blocks = max(1, min((WIDTH - 1) // block, -(-len(classes) // 5)))
    table = Table()
    for _ in range(blocks):
        table.add_column("class")
        for kind in kinds:
            table.add_column(kind, justify="right")
    cells = [
        [label, *(_number(values[k]) if k in values else "" for k in kinds)]
        for label, values in classes.items()
    ]
    rows = -(-len(cells) // blocks)
    for row in range(rows):  # down, then right
        table.add_row(*(cell for entry in cells[row::rows] for cell in entry))
    return table


def _number(value: float) -> str:
    """Two digits; "-" where nothing was annotated."""
    return "-" if math.isnan(value) else f"{value:.2f}"
