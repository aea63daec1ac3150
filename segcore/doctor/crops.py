"""What the training views of a config leave of the objects.

Legend of one-letter names: N segments, T views, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from segcore.data.store import Records
from segcore.doctor.finding import Case, Finding, finding
from segcore.doctor.objects import CELL
from segcore.doctor.recipe import Recipe
from segcore.errors import DataError
from segcore.labels import semantic_map
from segcore.structures import Metadata, Record, Sample

MOST = 200  # samples that are drawn
AGAIN = 4  # times that an image of a small data set is drawn
HALF = 0.5  # share of objects from which on it is a warning

Show = Callable[[Sample], None]


@dataclass(slots=True)
class CropCounts:
    """Objects of the images that were drawn, and what became of them, by class (0..K-1).

    Args:
        samples: how many were drawn.
        empty: how many of them had no object left.
        objects: in their images.
        seen: of which something is in the sample.
        tiny: of which less than a cell of the finest map is.
    """

    samples: int = 0
    empty: int = 0
    objects: Counter[int] = field(default_factory=Counter[int])
    seen: Counter[int] = field(default_factory=Counter[int])
    tiny: Counter[int] = field(default_factory=Counter[int])

    def add(self, sample: Sample | None) -> None:
        """Count what is left in a sample."""
        labels = [] if sample is None or sample.targets is None else sample.targets.labels.tolist()
        self.samples += 1
        self.empty += not labels
        self.seen.update(labels)
        if labels and sample and sample.targets:
            areas = sample.targets.masks.flatten(2).sum(2).amax(1)  # (N,) in the best view
            small = (areas < CELL * CELL).tolist()
            self.tiny.update(k for k, little in zip(labels, small, strict=True) if little)


def count_crops(
    records: Records, recipe: Recipe, *, show: Show | None = None, seed: int = 0
) -> CropCounts:
    """Draw samples as training does, and count; images that cannot be read are left out.

    Args:
        show: is given each sample.
    """
    counts, rng = CropCounts(), np.random.default_rng(seed)
    usable = np.flatnonzero(records.usable)
    number = min(MOST, AGAIN * len(usable))
    for i in rng.permutation(usable) if usable.size >= number else rng.choice(usable, number):
        if counts.samples >= number:
            break
        record = records[int(i)]
        try:
            there = _classes(record, recipe)
            sample = recipe.views(record, rng)
        except DataError:
            continue  # reported, where files are looked at
        counts.objects.update(there)
        counts.add(sample)
        if show and sample is not None:
            show(sample)
    return counts


def _classes(record: Record, recipe: Recipe) -> list[int]:
    """The class of each object that training could see of an image."""
    frame = record.frames[0]
    if recipe.of_labels:
        labels = semantic_map(frame, recipe.metadata)
        return np.flatnonzero(np.bincount(labels[labels >= 0])).tolist()
    if len(recipe.metadata.classes) == 1:
        return [0 for s in frame.segments if not s.crowd]
    return [s.category for s in frame.segments if not s.crowd]


def vanishing(counts: CropCounts, recipe: Recipe, data: str) -> Iterator[Finding]:
    """How much the crops cut away."""
    total, names = counts.objects.total(), recipe.metadata.row_names
    if not total:
        return
    gone = Counter({k: n - counts.seen[k] for k, n in counts.objects.items() if n > counts.seen[k]})
    drawn = f"of {total} objects in {counts.samples} samples"
    for check, lost in (
        ("object that vanishes in the crops", gone),
        ("object left with less than a cell in the crops", counts.tiny),
    ):
        if not lost:
            continue
        cases = [
            Case(message=f"{names[k]}: {n} of {counts.objects[k]}")
            for k, n in sorted(lost.items(), key=lambda item: -item[1] / counts.objects[item[0]])
        ]
        share = lost.total() / total
        severity = "warning" if share > HALF else "note"
        advice = f"{100 * share:.0f} % {drawn}; larger crops, or images resized less, keep more"
        yield finding(severity, check, data, cases, count=lost.total(), advice=advice)
    if counts.empty:
        text = f"{counts.empty} of {counts.samples} samples teach nothing but emptiness"
        severity = "warning" if counts.empty > HALF * counts.samples else "note"
        yield finding(
            severity, "sample without an object", data, [Case(message=text)], count=counts.empty
        )


def fits(recipe: Recipe, metadata: Metadata, *, stills: bool) -> bool:
    """Whether the recipe's views can be drawn of a data set.

    Args:
        stills: each record is one image.
    """
    return (
        stills and not recipe.clips and len(recipe.metadata.classes) in (1, len(metadata.classes))
    )
