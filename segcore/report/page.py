"""The page: where a model fails on a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from segcore.html_page import Picture, figures, html_page
from segcore.report import plots, tables
from segcore.report.counts import (
    ClassCounts,
    calibration,
    class_counts,
    confusion,
    curve,
    scored,
)
from segcore.report.outcome import Outcome
from segcore.report.pixels import CAUSES
from segcore.report.section import TITLES, Section
from segcore.report.worst import Budget, doubts, worst_images
from segcore.structures import Metadata

CURVES = 12  # classes with a curve, those with most errors
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
    budget = Budget()
    body = [
        f"<p>{escape(about)}</p>" if about else "",
        '<nav><a href="#metrics">metrics</a><a href="#worst">worst images</a>'
        '<a href="#doubts">suspicious labels</a></nav>',
        '<h2 id="metrics">Metrics</h2>',
        *tables.metric_table(metrics),
    ]
    for section in sections:
        body.append(f"<h2>{TITLES[section.kind]}</h2>")
        of_pixels = section.kind == "semantic"
        body += _pixels(section, metrics) if of_pixels else _numbers(section, metrics)
    for section in sections[:1]:
        body += worst_images(section, budget)
        body += doubts(section, budget)
    body.append(tables.SORT)
    return html_page(f"{name}: where it fails", f"Where it fails: {name}", "\n".join(body),
                     style=STYLE)  # fmt: skip


def _numbers(section: Section, metrics: Mapping[str, float]) -> Iterator[str]:
    """Tables and plots of segments."""
    metadata, outcomes = section.metadata, section.collector.outcomes()
    counts = class_counts(outcomes, len(metadata.classes))
    images = f"{len(outcomes)} image{'' if len(outcomes) == 1 else 's'}"
    least = next((o.confidence for o in outcomes), 0.0)
    yield (
        f"<p>{images} with {counts.annotated.sum()} annotated segments; {counts.predicted.sum()}"
        f" predictions{f' of a score of {least:g} and more' if least else ''}. One is right where"
        " it overlaps an annotated segment of its class by .5 (intersection over union).</p>"
    )
    yield "<h3>Errors by cause</h3>"
    yield from tables.cause_table(
        [(name, int(getattr(counts, field).sum()), text) for field, name, text in tables.CAUSES]
    )
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
    worst = _most_errors(errors, used)
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


def _pixels(section: Section, metrics: Mapping[str, float]) -> Iterator[str]:
    """Tables and plots of label images."""
    metadata, outcomes = section.metadata, section.collector.outcomes()
    K, names = len(metadata.classes), metadata.row_names
    matrix = np.sum([np.zeros((K, K), np.int64), *(o.matrix(K) for o in outcomes)], axis=0)
    total, right = int(matrix.sum()), int(matrix.diagonal().sum())
    yield (
        f"<p>{len(outcomes)} images with {total} annotated pixels, {total - right} of them wrong."
        " Label images carry no scores: there is no curve and no calibration of them.</p>"
    )
    yield "<h3>Errors by cause</h3>"
    counts = [sum(o.causes[kind] for o in outcomes) for kind, _, _ in CAUSES]
    rows = [(name, count, text) for (_, name, text), count in zip(CAUSES, counts, strict=True)]
    yield from tables.cause_table(rows)
    yield "<h3>Classes</h3>"
    yield from tables.pixel_table(names, matrix, metrics)
    if K > 1:
        yield "<h3>Which class is taken for which</h3>"
        errors = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
        worst = _most_errors(errors, np.flatnonzero(matrix.sum(0) + matrix.sum(1)))
        called = [names[k] for k in worst.tolist()]
        image = plots.plot_matrix(
            matrix[np.ix_(worst, worst)], called, called, ("annotated", "predicted")
        )
        yield from figures([Picture("pixels; shade: share of the row", image)], "plot")
        yield from tables.confusion_table(matrix, names, "pixels")


def _most_errors(errors: np.ndarray, used: np.ndarray) -> np.ndarray:
    """At most ROWS of the classes that occur, in their order."""
    return np.sort(used[np.argsort(-errors[used], kind="stable")][:ROWS])
