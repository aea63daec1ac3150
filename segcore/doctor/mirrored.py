"""Classes that say left and right, in a training that mirrors its images."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from segcore.data.side_names import side_pairs, sided_classes
from segcore.doctor.finding import Case, Finding, finding
from segcore.structures import Metadata


def mirrored_sides(
    metadata: Metadata, data: str, swapped: Collection[str] = ()
) -> Iterator[Finding]:
    """Of one data set.

    Args:
        metadata: the classes that are trained.
        swapped: those that change places in a mirrored image.
    """
    names = [name for name in sided_classes(metadata.classes) if name not in swapped]
    if names:
        paired = {name for pair in side_pairs(metadata.classes) for name in pair}
        swap = (
            "INPUT.MIRROR_SWAP auto, which exchanges the two classes there"
            if paired.issuperset(names)
            else "INPUT.MIRROR_SWAP with the pairs of classes that change places there"
        )
        advice = (
            "a mirrored image shows the other side under the name of this one, so that neither is"
            f" learnt: {swap}, or INPUT.RANDOM_FLIP none"
        )
        cases = [Case(message=name) for name in names]
        check = "class of one side, and images are mirrored"
        yield finding("warning", check, data, cases, advice=advice)
