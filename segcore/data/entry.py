"""What the name of a data set stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segcore.data.formats.format import Format, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A data set by its name; classes and evaluators as people wrote them, unchecked.

    Args:
        classes: a list or an object, or the path of a file that has one; None: the data set's own.
        evaluators: None: what is usual for the format.
        boundary_dilation: None: what is usual.
    """

    name: str
    format: Format
    source: Source
    classes: Any = None
    evaluators: Any = None
    boundary_dilation: Any = None
