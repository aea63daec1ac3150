"""Classes that say left and right, in a training that mirrors its images."""

from __future__ import annotations

from collections.abc import Iterator

from segcore.data.side_names import sided_classes
from segcore.doctor.finding import Case, Finding, finding
from segcore.structures import Metadata


def mirrored_sides(metadata: Metadata, data: str) -> Iterator[Finding]:
    """Of one data set.

    Args:
        metadata: the classes that are trained.
    """
    names = sided_classes(metadata.classes)
    if names:
        advice = (
            "a mirrored image shows the other side under the name of this one, so that neither is"
            " learnt: INPUT.RANDOM_FLIP none"
        )
        cases = [Case(message=name) for name in names]
        check = "class of one side, and images are mirrored"
        yield finding("warning", check, data, cases, advice=advice)
