"""One image's truth and predictions beside each other.

Legend of one-letter names: N true segments, P predicted segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segcore.structures import Record, Result, Rle, Size

DOUBT = -1  # in the place of a class: images by their surest contradiction


@dataclass(frozen=True, slots=True)
class Compared:
    """One image.

    Args:
        truth: N masks; crowds are not among them.
        predicted: P masks, best first.
    """

    size: Size
    truth_labels: list[int]  # N
    truth: list[Rle]
    labels: list[int]  # P
    scores: list[float]
    predicted: list[Rle]
    excused: np.ndarray  # (P,) bool: no error where it matches nothing
    confidence: float  # score from which predictions count as shown


Compare = Callable[[Result, Record], Compared]
