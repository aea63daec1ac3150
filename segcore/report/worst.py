"""The worst images of a page, and labels that may be wrong, with their pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from segcore.errors import DataError
from segcore.html_page import Picture, data_uri, figures
from segcore.report.collector import PICTURES, SUSPECTS
from segcore.report.compared import DOUBT
from segcore.report.counts import class_counts
from segcore.report.outcome import WRONG_CLASS, Outcome, suspicions
from segcore.report.pictures import COLORS, doubt_picture, image_row, pixel_row
from segcore.report.pixels import PixelOutcome, doubtful_regions
from segcore.report.section import Section
from segcore.report.tables import CAUSES
from segcore.structures import Metadata

LARGEST = 8_000_000  # bytes of pictures; what comes behind them has captions alone
DOUBTS_PER_IMAGE = 3
DOUBTFUL_MAPS = 8  # label images


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Paths from the folder on that they have in common."""
    folder = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return {name: os.path.relpath(name, folder or ".") for name in names}


class Budget:
    """Bytes that pictures may take."""

    def __init__(self) -> None:
        self.left = LARGEST

    def picture(self, caption: str, source: str) -> Picture:
        """With its image, or with its caption alone where nothing is left for it."""
        if len(source) > self.left:
            return Picture(f"{caption} (no picture: the page would be too large)")
        self.left -= len(source)
        return Picture(caption, source)


def worst_images(section: Section, budget: Budget) -> Iterator[str]:
    """By class, those with the most errors first."""
    metadata, outcomes = section.metadata, section.collector.outcomes()
    lists = section.collector.ranked()
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


def _picture(budget: Budget, caption: str, outcome: Any, metadata: Metadata) -> Picture:
    """An image's row of pictures, or why there is none."""
    try:
        if isinstance(outcome, PixelOutcome):
            assert outcome.kept is not None
            row = pixel_row(outcome.kept, metadata)
        else:
            row = image_row(outcome, metadata)
    except DataError as error:
        return Picture(f"{caption}: {error}")
    return budget.picture(caption, data_uri(row))


def _errors(outcome: Any, k: int, num_classes: int) -> int:
    """Segments or pixels of a class that are wrong."""
    if isinstance(outcome, PixelOutcome):
        matrix = outcome.matrix(num_classes)
        return int(matrix[k].sum() + matrix[:, k].sum() - 2 * matrix[k, k])
    counts = class_counts([outcome], num_classes)
    return int(counts.annotated[k] + counts.predicted[k] - 2 * counts.found[k])


def _said(outcome: Any, metadata: Metadata) -> str:
    """Errors of an image in words."""
    if isinstance(outcome, PixelOutcome):
        right = outcome.counts[outcome.truths == outcome.labels].sum()
        return f"{100 * right / max(int(outcome.counts.sum()), 1):.1f} % of the pixels are right"
    counts = class_counts([outcome], len(metadata.classes))
    parts = [
        f"{int(getattr(counts, field).sum())} {name}"
        for field, name, _ in CAUSES
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


def doubts(section: Section, budget: Budget) -> Iterator[str]:
    """Labels that sure predictions contradict, with pictures."""
    yield '<h2 id="doubts">Suspicious labels</h2>'
    outcomes = section.collector.ranked().get(DOUBT, [])
    if not outcomes:
        yield "<p>None: no sure prediction contradicts the annotations.</p>"
        return
    short = short_names([o.name for o in section.collector.outcomes()])
    if section.kind == "semantic":
        yield "<p>Regions that are seen as another class almost altogether: is the label right?</p>"
        yield from figures(_doubtful_maps(outcomes, short, section.metadata, budget), "row")
        return
    yield (
        "<p>Predictions of high score that contradict the annotations: the model is wrong, or the"
        " label is. The pink line is what the model sees.</p>"
    )
    yield from figures(_doubtful_segments(outcomes, short, section.metadata, budget), "doubt")


def _doubtful_segments(
    outcomes: Sequence[Outcome], short: dict[str, str], metadata: Metadata, budget: Budget
) -> Iterator[Picture]:
    found = [(o, p) for o in outcomes for p in suspicions(o)[:DOUBTS_PER_IMAGE]]
    found.sort(key=lambda pair: -pair[0].scores[pair[1]])
    for outcome, p in found[:SUSPECTS]:
        seen = f"{metadata.row_names[outcome.labels[p]]}, {100 * outcome.scores[p]:.0f} % sure"
        label = "nothing of the kind"
        if outcome.causes[p] == WRONG_CLASS:
            label = metadata.row_names[outcome.truths[outcome.of[p]]]
        caption = f"{short[outcome.name]}: labelled {label}; the model says {seen}"
        yield _doubt(budget, caption, outcome, p, metadata)


def _doubtful_maps(
    outcomes: Sequence[PixelOutcome], short: dict[str, str], metadata: Metadata, budget: Budget
) -> Iterator[Picture]:
    for outcome in outcomes[:DOUBTFUL_MAPS]:
        said = "; ".join(
            f"labelled {metadata.row_names[t]}, {100 * share:.0f} % of it seen as"
            f" {metadata.row_names[p]}"
            for t, p, share in doubtful_regions(outcome)
        )
        yield _picture(budget, f"{short[outcome.name]}: {said}", outcome, metadata)


def _doubt(budget: Budget, caption: str, outcome: Outcome, p: int, metadata: Metadata) -> Picture:
    assert outcome.kept is not None
    try:
        return budget.picture(caption, data_uri(doubt_picture(outcome.kept, p, metadata)))
    except DataError as error:
        return Picture(f"{caption}: {error}")
