"""What is wrong in a data set, and who is to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from segcore.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault of a file; who reads the file leaves out what it spoils, and goes on.

    Args:
        message: what, where, what was expected, what to do.
        path: of the file.
        kind: a word or two that alike problems share: "category", "segmentation", "image size".
        image: id of the image, where it is known.
        annotation: id of the annotation, where it is known.
    """

    message: str
    path: Path
    kind: str
    image: int | str | None = None
    annotation: int | str | None = None


Report = Callable[[Problem], None]  # what is done about a problem


def raise_it(problem: Problem) -> NoReturn:
    """The first problem is the last: a training wants a data set without any."""
    raise DataError(problem.message) from None
