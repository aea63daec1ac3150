"""OUTPUT_DIR/curves.png: loss, learning rate and metrics of a run by iteration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segcore.engine.metrics_file import Entry, read_history
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)

CURVES = "curves.png"
MOST = 8  # lines of one plot
MAIN = ("PQ", "AP", "mIoU", "APe", "HOTA")  # what each task is known by; other metrics are parts


def draw_curves(folder: Path, best: str = "") -> bool:
    """Write curves.png anew from what metrics.json holds; whether there was anything to draw.

    A full disk is logged: training goes on.

    Args:
        folder: OUTPUT_DIR.
        best: the metric by which the best is chosen; it is drawn first.
    """
    history = read_history(folder)
    if not history.steps and not history.evaluations:
        return False
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, rate, metrics = figure.subplots(1, 3)
    _plot(loss, history.steps, _losses(history.steps))
    if any(line.get_ydata().max(initial=0) > 0 for line in loss.get_lines()):  # type: ignore[union-attr]
        loss.set_yscale("log")
    _plot(rate, history.steps, ["lr"])
    _plot(metrics, history.evaluations, _headlines(history.evaluations, best), marker="o")
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (metrics, "metrics (%)")):
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
    try:
        with whole_file(folder / CURVES) as stream:
            figure.savefig(stream, format="png", dpi=100)
    except OSError as error:
        logger.error("%s: could not be written (%s); training goes on", folder / CURVES, error)
    return True


def _plot(axes: Axes, entries: Sequence[Entry], names: Sequence[str], marker: str = "") -> None:
    """A line a name, over the entries that have it."""
    for name in names:
        there = [entry for entry in entries if name in entry]
        axes.plot(
            [entry["iteration"] for entry in there],
            [entry[name] for entry in there],
            marker=marker,
            label=name,
        )
    if len(names) > 1 or (marker and names):
        axes.legend(fontsize="small")


def _losses(steps: Sequence[Entry]) -> list[str]:
    """The sum, and the last layer's terms: those of other layers end in a digit."""
    names = {name for entry in steps for name in entry if name.startswith("loss")}
    return ["total_loss", *sorted(name for name in names if not name[-1].isdigit())][:MOST]


def _headlines(evaluations: Sequence[Entry], best: str) -> list[str]:
    """What the best is chosen by, each task's own metric, then others of all classes in order."""
    names = dict.fromkeys(name for entry in evaluations for name in entry if name != "iteration")
    whole = [name for name in names if "-" not in name.rpartition("/")[2]]

    def rank(name: str) -> tuple[bool, int]:
        metric = name.rpartition("/")[2]
        return name != best, MAIN.index(metric) if metric in MAIN else len(MAIN)

    return sorted(whole, key=rank)[:MOST]
