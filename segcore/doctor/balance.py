"""Classes that are rare, missing, or everything there is.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from segcore.doctor.finding import Case, Finding, finding
from segcore.structures import Metadata

FEW = 10  # objects of which nobody learns a class
NEARLY_ALL = 0.95  # share of all objects


def imbalance(counts: Counter[int], metadata: Metadata) -> Iterator[Finding]:
    """Of one data set.

    Args:
        counts: objects, or label images, of each class (0..K-1).
    """
    names, total, data = metadata.row_names, counts.total(), metadata.name
    if not total:
        return
    never = [Case(message=name) for k, name in enumerate(names) if not counts[k]]
    if never:
        yield finding("note", "class that never occurs", data, never)
    rare = [Case(message=f"{names[k]}: {n}") for k, n in counts.most_common()[::-1] if n < FEW]
    if rare:
        yield finding("note", f"class with under {FEW} objects or label images", data, rare)
    (k, most), *_ = counts.most_common(1)
    if len(names) > 1 and most > NEARLY_ALL * total:
        share = Case(message=f"{names[k]}: {most} of {total}")
        yield finding("note", "one class is nearly everything", data, [share])


def mostly_crowds(
    objects: Counter[int], crowds: Counter[int], metadata: Metadata
) -> Iterator[Finding]:
    """Classes of which most annotations are marked crowd: no training sees these.

    Args:
        objects: annotations of each class (0..K-1) that are no crowds.
        crowds: those that are.
    """
    most = {k: n for k, n in crowds.items() if n > objects[k]}
    if most:
        cases = [
            Case(message=f"{metadata.row_names[k]}: {n} of {n + objects[k]}")
            for k, n in most.items()
        ]
        check, count = "class of crowds for the most part", len(most)
        advice = 'write "iscrowd": 0 where a mask is of one object (CVAT writes 1 for every mask)'
        yield finding("warning", check, metadata.name, cases, count=count, advice=advice)


def differing_classes(
    counts: Counter[int], metadata: Metadata, first: Metadata, trained: Counter[int]
) -> Iterator[Finding]:
    """What another data set asks of a model that was trained on the first one.

    Args:
        counts: of this data set.
        first: of the one that is trained on.
        trained: how often its classes occur there.
    """
    data = metadata.name
    if metadata.classes != first.classes:
        message = f"{len(metadata.classes)} classes, the training set has {len(first.classes)}"
        if len(metadata.classes) == len(first.classes):
            both = zip(first.classes, metadata.classes, strict=True)
            a, b = next((a, b) for a, b in both if a != b)
            message = f"{b!r} stands where the training set has {a!r}"
        advice = "one class list for both, with the same names in the same order"
        yield finding("error", "other classes", data, [Case(message=message)], advice=advice)
        return
    lost = [
        Case(message=f"{metadata.row_names[k]}: {n} here, none in the training set")
        for k, n in counts.most_common()
        if not trained[k]
    ]
    if trained and lost:
        yield finding("warning", "class that the training set lacks", data, lost)
