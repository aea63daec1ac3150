"""Tables of a page in HTML; all texts from outside are escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from segcore.report.counts import ClassCounts
from segcore.report.meanings import meaning

SORT = """<script>
for (const head of document.querySelectorAll("table.sortable th")) head.onclick = () => {
  const table = head.closest("table"), column = head.cellIndex, sign = head.dataset.sign = -head.dataset.sign || -1;
  const value = row => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent };
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], d = x - y;
    return sign * (isNaN(d) ? x === "" ? -1 : y === "" ? 1 : x.localeCompare(y) : d) });
  table.tBodies[0].append(...rows);
};
</script>"""  # noqa: E501
CAUSES = (
    ("missed", "missed", "annotated, and no prediction comes near it"),
    ("taken_for", "wrong class", "the right place (overlap of .5 and more), another class"),
    ("poor", "poor outline", "the right class, but overlap with the annotation is .1 to .5 only"),
    ("duplicates", "twice", "an object that a surer prediction has found already"),
    ("invented", "invented", "nothing of the kind is annotated there"),
)
COLUMNS = (  # of the table of classes: field, head, what it is
    ("annotated", "annotated", "segments in the annotations"),
    ("found", "found", "of them, overlapped by .5 and more by a prediction of their class"),
    ("recall", "recall", "found / annotated, in percent"),
    ("precision", "precision", "found / predicted, in percent"),
    *CAUSES,
)
CONFUSIONS = 20  # rows of their table

Cell = str | float | int


def metric_table(metrics: Mapping[str, float]) -> Iterator[str]:
    """Overall numbers with what they mean."""
    yield "<table><tr><th>metric</th><th>value</th><th>what it says</th></tr>"
    for name, value in metrics.items():
        if "-" not in name:
            text = "-" if math.isnan(value) else f"{value:.2f}"
            said = meaning(name)
            if math.isnan(value):
                said += f"{'; ' if said else ''}nothing of the kind is annotated here"
            yield (
                f'<tr><td><b>{escape(name)}</b></td><td class="number">{text}</td>'
                f"<td>{escape(said)}</td></tr>"
            )
    yield "</table>"


def measures(metric: str, kind: str) -> bool:
    """Whether a metric by class is of a kind of result; what nobody knows is of all."""
    known = {"PQ": "panoptic", "IoU": "semantic"}
    return known.get(metric, "instance" if "AP" in metric else kind) == kind


def class_table(
    names: Sequence[str], counts: ClassCounts, metrics: Mapping[str, float], of: str
) -> Iterator[str]:
    """A row for each class that occurs, in truth or predictions.

    Args:
        metrics: those of classes, `AP-cat`, have columns where they are of this kind of result.
        of: that kind.
    """
    kinds = list(dict.fromkeys(key.partition("-")[0] for key in metrics if "-" in key))
    kinds = [kind for kind in kinds if measures(kind, of)]
    used = np.flatnonzero(counts.annotated + counts.predicted)
    columns = [(getattr(counts, field), field) for field, _, _ in COLUMNS]
    rows: list[list[Cell]] = []
    for k in used.tolist():
        row: list[Cell] = [names[k], *(metrics.get(f"{m}-{names[k]}", math.nan) for m in kinds)]
        for values, field in columns:
            percent = 100 if field in ("recall", "precision") else 1
            row.append(percent * values[k].item())
        rows.append(row)
    heads = [("class", "a click on a head sorts"), *((kind, meaning(kind)) for kind in kinds)]
    yield from sortable([*heads, *((head, text) for _, head, text in COLUMNS)], rows)


def sortable(heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """A table that a click on a head sorts; needs SORT somewhere behind it.

    Args:
        heads: and what they mean, shown where the pointer rests.
    """
    yield '<table class="sortable"><thead><tr>'
    yield "".join(f'<th title="{escape(text)}">{escape(name)}</th>' for name, text in heads)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(map(_cell, row))}</tr>"
    yield "</tbody></table>"


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, float):
        known = not math.isnan(value)
        text, order = (f"{value:.1f}", f"{value:.4f}") if known else ("-", "-1")
        return f'<td class="number" data-value="{order}">{text}</td>'
    return f'<td class="number">{value}</td>'


def cause_table(rows: Sequence[tuple[str, int, str]]) -> Iterator[str]:
    """Errors by cause, with bars.

    Args:
        rows: name, count, what it is.
    """
    counts = [count for _, count, _ in rows]
    largest, total = max(1, *counts), max(1, sum(counts))
    yield "<table><tr><th>cause</th><th>errors</th><th></th><th></th><th>what it is</th></tr>"
    for name, count, text in rows:
        yield (
            f'<tr><td><b>{name}</b></td><td class="number">{count}</td>'
            f'<td class="number">{100 * count / total:.0f} %</td><td style="width:25%">'
            f'<span class="bar" style="width:{100 * count / largest:.1f}%"></span></td>'
            f"<td>{text}</td></tr>"
        )
    yield "</table>"


def pixel_table(
    names: Sequence[str], matrix: np.ndarray, metrics: Mapping[str, float]
) -> Iterator[str]:
    """A row for each class that occurs, of (K, K) pixels, truth by prediction."""
    annotated, predicted, right = matrix.sum(1), matrix.sum(0), matrix.diagonal()
    total, rows = max(int(matrix.sum()), 1), []
    for k in np.flatnonzero(annotated + predicted).tolist():
        shares = [(right[k], annotated[k]), (right[k], predicted[k]), (annotated[k], total)]
        percents = [100 * float(part / whole) if whole else math.nan for part, whole in shares]
        rows.append([str(names[k]), metrics.get(f"IoU-{names[k]}", math.nan), *percents])
    heads = (
        ("class", "a click on a head sorts"),
        ("IoU", "pixels that truth and prediction share, of those that either has, in percent"),
        ("recall", "share of its annotated pixels that are seen as it, in percent"),
        ("precision", "share of the pixels seen as it that are annotated so, in percent"),
        ("% of pixels", "share of all annotated pixels"),
    )
    yield from sortable(heads, rows)


def confusion_table(matrix: np.ndarray, names: Sequence[str], unit: str) -> Iterator[str]:
    """The most frequent pairs of different classes.

    Args:
        matrix: (K, K or more) truth by prediction; what is behind the classes is no class.
        unit: what is counted.
    """
    off = matrix[: len(names), : len(names)].copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(i, len(off)) for i in order.tolist() if off.flat[i]]
    if not pairs:
        yield "<p>No class is taken for another one.</p>"
        return
    totals = matrix.sum(1)
    rows: list[list[Cell]] = []
    for t, p in pairs:
        count = int(off[t, p])
        rows.append([str(names[t]), str(names[p]), count, 100 * count / int(totals[t])])
    heads = ("annotated", ""), ("predicted", ""), (unit, ""), ("% of the class", "")
    yield from sortable(heads, rows)
