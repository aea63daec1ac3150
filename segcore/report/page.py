"""The page: where a model fails on a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from segcore.errors import DataError
from segcore.html_page import Picture, data_uri, figures, html_page
from segcore.report import plots, tables
from segcore.report.collector import DOUBT, PICTURES, SUSPECTS, ranked
from segcore.report.counts import (
    ClassCounts,
    calibration,
    class_counts,
    confusion,
    curve,
    scored,
)
from segcore.report.outcome import WRONG_CLASS, Outcome, suspicions
from segcore.report.pictures import COLORS, doubt_picture, image_row
from segcore.report.section import TITLES, Section
from segcore.structures import Metadata

LARGEST = 8_000_000  # bytes of pictures; what comes behind them has captions alone
CURVES = 12  # classes with a curve, those with most errors
DOUBTS_PER_IMAGE = 3
ROWS = 30  # classes of a confusion matrix, those with most errors
STYLE = """
figure.plot { width: auto } figure.plot img { width: auto; max-width: 100% }
figure.row { width: 100% } figure.row img { width: auto; max-width: 100% }
figure.doubt { width: 560px }
th[title] { cursor: help } .sortable th { cursor: pointer; text-decoration: underline dotted }
.key { display: inline-block; width: 1em; height: 1em; vertical-align: -.15em; margin: 0 .3em 0 1em }
nav a { margin-right: 1.2em }
"""  # noqa: E501


def report_page(
    name: str, metrics: Mapping[str, float], sections: Sequence[Section], *, about: str = ""
) -> str:
    """All of it, less than ten megabytes.

    Args:
        name: of the data set.
        metrics: as the evaluators call them; of classes `AP-cat`.
        sections: the first one has pictures.
        about: what was evaluated.
    """
    budget = Budget(LARGEST)
    body = [
        f"<p>{escape(about)}</p>" if about else "",
        '<nav><a href="#metrics">metrics</a><a href="#worst">worst images</a>'
        '<a href="#doubts">suspicious labels</a></nav>',
        '<h2 id="metrics">Metrics</h2>',
        *tables.metric_table(metrics),
    ]
    for section in sections:
        body += _numbers(section, metrics)
    for section in sections[:1]:
        body += _worst_images(section, budget)
        body += _doubts(section, budget)
    body.append(tables.SORT)
    return html_page(f"{name}: where it fails", f"Where it fails: {name}", "\n".join(body),
                     style=STYLE)  # fmt: skip


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Paths from the folder on that they have in common."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return {name: os.path.relpath(name, folder or ".") for name in names}


class Budget:
    """Bytes that pictures may take."""

    def __init__(self, left: int) -> None:
        self.left = left

    def picture(self, caption: str, source: str) -> Picture:
        """With its image, or with its caption alone where nothing is left for it."""
        if len(source) > self.left:
            return Picture(f"{caption} (no picture: the page would be too large)")
        self.left -= len(source)
        return Picture(caption, source)


def _numbers(section: Section, metrics: Mapping[str, float]) -> Iterator[str]:
    """Tables and plots of a kind of result."""
    metadata, outcomes = section.metadata, section.collector.outcomes()
    counts = class_counts(outcomes, len(metadata.classes))
    yield f"<h2>{TITLES[section.kind]}</h2>"
    images = f"{len(outcomes)} image{'' if len(outcomes) == 1 else 's'}"
    least = next((o.confidence for o in outcomes), 0.0)
    yield (
        f"<p>{images} with {counts.annotated.sum()} annotated segments; {counts.predicted.sum()}"
        f" predictions{f' of a score of {least:g} and more' if least else ''}. One is right where"
        " it overlaps an annotated segment of its class by .5 (intersection over union).</p>"
    )
    yield "<h3>Errors by cause</h3>"
    yield from tables.cause_table(counts)
    yield "<h3>Classes</h3>"
    yield from tables.class_table(metadata.row_names, counts, metrics, section.kind)
    if len(metadata.classes) > 1:
        yield "<h3>Which class is taken for which</h3>"
        yield from _confusions(outcomes, metadata, counts)
    yield from _curves(outcomes, metadata, counts)


def _confusions(
    outcomes: Sequence[Outcome], metadata: Metadata, counts: ClassCounts
) -> Iterator[str]:
    names, K = metadata.row_names, len(metadata.classes)
    matrix = confusion(outcomes, K)
    errors = matrix.sum(0)[:K] + matrix.sum(1)[:K] - 2 * matrix.diagonal()[:K]
    used = np.flatnonzero(counts.annotated + counts.predicted)
    worst = np.sort(used[np.argsort(-errors[used], kind="stable")][:ROWS])
    if len(used) > ROWS:
        yield f"<p>The {ROWS} classes with the most errors, of {len(used)}.</p>"
    index = np.append(worst, K)
    called = [names[k] for k in worst.tolist()]
    image = plots.plot_matrix(
        matrix[np.ix_(index, index)],
        [*called, "nothing (invented)"],
        [*called, "nothing (missed)"],
        ("annotated", "predicted"),
    )
    caption = "shade: share of the row; a perfect model has the diagonal alone"
    yield from figures([Picture(caption, image)], "plot")
    yield from tables.confusion_table(matrix[:K], names, "segments")


def _curves(outcomes: Sequence[Outcome], metadata: Metadata, counts: ClassCounts) -> Iterator[str]:
    """Precision against recall, and calibration."""
    predictions, total = scored(outcomes), int(counts.annotated.sum())
    if not total or not len(predictions.scores):
        yield "<p>No curves: there are no annotations or no predictions.</p>"
        return
    all_of_them = curve(predictions, total)
    shown = {"all classes together": all_of_them}
    lost = counts.annotated - counts.found
    if len(metadata.classes) > 1:
        for k in np.argsort(-lost, kind="stable")[:CURVES].tolist():
            if counts.annotated[k]:
                shown[metadata.row_names[k]] = curve(predictions, int(counts.annotated[k]), k)
    least = next((o.confidence for o in outcomes), 0.0)
    measured = calibration(predictions)
    best, f1 = all_of_them.best_confidence()
    yield "<h3>How sure it is, and how often it is right</h3>"
    yield (
        f"<p>Precision and recall are balanced best (F1 {100 * f1:.1f}) by showing predictions of a"
        f" score of {best:.2f} and more: <code>segcore predict --confidence-threshold"
        f" {best:.2f}</code>. Score and share of right predictions lie"
        f" {100 * measured.error(least):.1f} points apart on average"
        f"{f' from a score of {least:g} on' if least else ''}; where bars end below the line, the"
        " model is surer than it should be.</p>"
    )
    pictures = [
        Picture("precision against recall as the score sinks", plots.plot_curves(shown)),
        Picture("calibration", plots.plot_calibration(measured)),
    ]
    yield from figures(pictures, "plot")


def _worst_images(section: Section, budget: Budget) -> Iterator[str]:
    metadata, outcomes = section.metadata, section.collector.outcomes()
    lists = ranked(outcomes, len(metadata.classes))
    errors = {
        k: sum(_errors(o, k, len(metadata.classes)) for o in images)
        for k, images in lists.items()
        if k != DOUBT
    }
    yield '<h2 id="worst">Worst images</h2>'
    yield from _legend()
    shown: dict[str, int] = {}
    short = short_names([o.name for o in outcomes])
    for k in sorted(errors, key=lambda k: (-errors[k], k)):
        new = [o for o in lists[k] if o.name not in shown][: PICTURES - len(shown)]
        seen = [shown[o.name] for o in lists[k] if o.name in shown]
        if not new and not seen:
            continue
        if len(metadata.classes) > 1:
            yield f"<h3>{escape(metadata.row_names[k])}</h3>"
        pictures = []
        for outcome in new:
            shown[outcome.name] = len(shown) + 1
            caption = f"{shown[outcome.name]}. {short[outcome.name]}: {_said(outcome, metadata)}"
            pictures.append(_picture(budget, caption, outcome, metadata))
        yield from figures(pictures, "row")
        if seen:
            yield f"<p>Also {', '.join(f'picture {n}' for n in seen)} of another class.</p>"
    if not shown:
        yield "<p>None: all segments are found, and nothing else.</p>"


def _picture(budget: Budget, caption: str, outcome: Outcome, metadata: Metadata) -> Picture:
    try:
        return budget.picture(caption, data_uri(image_row(outcome, metadata)))
    except DataError as error:
        return Picture(f"{caption}: {error}")


def _errors(outcome: Outcome, k: int, num_classes: int) -> int:
    counts = class_counts([outcome], num_classes)
    return int(counts.annotated[k] + counts.predicted[k] - 2 * counts.found[k])


def _said(outcome: Outcome, metadata: Metadata) -> str:
    """Errors of an image in words."""
    counts = class_counts([outcome], len(metadata.classes))
    parts = [
        f"{int(getattr(counts, field).sum())} {name}"
        for field, name, _ in tables.CAUSES
        if getattr(counts, field).any()
    ]
    return f"{counts.found.sum()} of {counts.annotated.sum()} found; " + ", ".join(parts)


def _legend() -> Iterator[str]:
    keys = "".join(
        f'<span class="key" style="background:rgb{color}"></span>{name}'
        for name, color in COLORS.items()
    )
    yield (
        "<p>What a prediction matches, it shares its colour with; what matches nothing has a colour"
        f" of its own. In the last picture:{keys}</p>"
    )


def _doubts(section: Section, budget: Budget) -> Iterator[str]:
    metadata = section.metadata
    outcomes = ranked(section.collector.outcomes(), len(metadata.classes)).get(DOUBT, [])
    found = [(o, p) for o in outcomes for p in suspicions(o)[:DOUBTS_PER_IMAGE]]
    found.sort(key=lambda pair: -pair[0].scores[pair[1]])
    yield '<h2 id="doubts">Suspicious labels</h2>'
    if not found:
        yield "<p>None: no sure prediction contradicts the annotations.</p>"
        return
    yield (
        "<p>Predictions of high score that contradict the annotations: the model is wrong, or the"
        " label is. The pink line is what the model sees.</p>"
    )
    pictures, short = [], short_names([o.name for o in section.collector.outcomes()])
    for outcome, p in found[:SUSPECTS]:
        seen = f"{metadata.row_names[outcome.labels[p]]}, {100 * outcome.scores[p]:.0f} % sure"
        label = "nothing of the kind"
        if outcome.causes[p] == WRONG_CLASS:
            label = metadata.row_names[outcome.truths[outcome.of[p]]]
        caption = f"{short[outcome.name]}: labelled {label}; the model says {seen}"
        pictures.append(_doubt(budget, caption, outcome, p, metadata))
    yield from figures(pictures, "doubt")


def _doubt(budget: Budget, caption: str, outcome: Outcome, p: int, metadata: Metadata) -> Picture:
    assert outcome.kept is not None
    try:
        return budget.picture(caption, data_uri(doubt_picture(outcome.kept, p, metadata)))
    except DataError as error:
        return Picture(f"{caption}: {error}")
