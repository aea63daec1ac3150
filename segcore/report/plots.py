"""Plots of a page, by matplotlib.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from segcore.label_font import label_font
from segcore.report.counts import BINS, Calibration, Curve

DPI = 100
CELLS = 12  # classes up to which a matrix has its numbers written in
LONGEST = 24  # signs of a class name


def plot_curves(curves: dict[str, Curve]) -> str:
    """Precision against recall by name, the first one fat; a data URI."""
    figure, axes = _figure(6.4, 4.6)
    for i, (name, curve) in enumerate(curves.items()):
        style = {"color": "black", "linewidth": 2.5} if i == 0 else {"linewidth": 1.2}
        label = f"{plain(name)} ({100 * curve.area:.1f})"
        axes.plot([0, *curve.recall], [1, *curve.precision], label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall: share of the annotated that is found")
    axes.set_ylabel("precision: share of predictions that are right")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), title="AP at overlap .50")
    return _uri(figure)


def plot_calibration(measured: Calibration) -> str:
    """Share of right predictions by their score, and how many there are; a data URI."""
    figure, axes = _figure(4.6, 4.6)
    middles = (np.arange(BINS) + 0.5) / BINS
    shares = np.nan_to_num(measured.precision)
    axes.bar(middles, shares, 0.9 / BINS, color="#4a7ebb", label="share that is right")
    axes.plot([0, 1], [0, 1], "--", color="#888", label="if scores were true")
    for x, share, count in zip(middles, shares, measured.counts.tolist(), strict=True):
        axes.text(x, share + 0.01, str(count), ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel="score (above bars: number of predictions)")
    axes.set_ylabel("share of them that is right")
    axes.legend(fontsize=8, loc="upper left")
    return _uri(figure)


def plot_matrix(
    matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], axis_names: tuple[str, str]
) -> str:
    """Shares of each row in shades, with numbers where there are few; a data URI."""
    side = max(3.6, 1.6 + 0.36 * len(rows))
    figure, axes = _figure(side + 1, side)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), [plain(name) for name in columns], rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), [plain(name) for name in rows], fontsize=8)
    axes.set(ylabel=axis_names[0], xlabel=axis_names[1])
    if len(rows) <= CELLS:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            color = "white" if shares[i, j] > 0.5 else "black"
            text = short_count(int(matrix[i, j]))
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    return _uri(figure)


def short_count(count: int) -> str:
    """1234567 -> 1.2M."""
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1000 if letter == 'k' else size):.3g}{letter}"
    return str(count)


def plain(name: str) -> str:
    """A stranger's name as matplotlib writes it letter by letter, no formula; not too long."""
    name = name if len(name) <= LONGEST else name[: LONGEST - 3] + "..."
    _, shown = label_font(name, 10)
    return shown.replace("$", r"\$")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # here: a training need not wait half a second for it

    figure = Figure(figsize=(width, height), dpi=DPI)
    return figure, figure.add_subplot()


def _uri(figure: Any) -> str:
    """As a PNG of few colours."""
    stream, small = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, format="png", bbox_inches="tight")
    image = Image.open(stream).convert("RGB").quantize(128)
    image.save(small, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()
