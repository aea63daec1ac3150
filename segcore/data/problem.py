"""What is wrong in a data set, and who is to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segcore.errors import DataError

# kinds of losses: nothing of such an annotation can be learnt, or not what is meant
NO_MASK = "box without a mask"
SHORT = "ring of an odd length or of under three points"
BROKEN_RING = "one of several rings left out"
OTHER_SHAPE = "point, line or skeleton"
FURTHER = "second annotation of an image"
FLAT = "mask without an area"
UNIT = "coordinates of 0 to 1"
OUTSIDE = "outside its image"
MOSTLY_OUTSIDE = "mostly outside its image"
UNLISTED = "pixels of a segment id that is not listed"
DROPPED = (
    NO_MASK,
    SHORT,
    OTHER_SHAPE,
)  # of these there is no segment; the others stay, as they always did
ASTRAY = "coordinate that went astray"  # a fault: to draw such a polygon takes all memory
# kinds of oddities
OTHER_AREA = "mask of another area than the file says"
OTHER_BOX = "mask of another place than the file's bbox"
NO_ANNOTATION = "image without an annotation"
ID_ZERO = "segment id 0"
ODDITIES = (OTHER_AREA, OTHER_BOX, NO_ANNOTATION, ID_ZERO)


Effect = Literal["fault", "loss", "oddity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a file; who reads the file leaves out what it spoils, and goes on.

    Args:
        message: what, where, what was expected, what to do.
        path: of the file.
        kind: a word or two that alike problems share: "category", "segmentation", "image size".
        image: id of the image, where it is known.
        annotation: id of the annotation, where it is known.
        effect: "fault": nobody trains with it; "loss": a training counts it, and what it is about
            teaches nothing, or something else; "oddity": it is counted, and used as it is.
        category: contiguous class, where it is known.
    """

    message: str
    path: Path
    kind: str
    image: int | str | None = None
    annotation: int | str | None = None
    effect: Effect = "fault"
    category: int | None = None


Report = Callable[[Problem], None]  # what is done about a problem


def raise_it(problem: Problem) -> None:
    """The first fault is the last: a training wants a data set without any."""
    if problem.effect == "fault":
        raise DataError(problem.message) from None
