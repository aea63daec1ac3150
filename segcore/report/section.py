"""One kind of result in a report: what was collected, and what its numbers are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segcore.report.collector import FailureCollector
from segcore.structures import Metadata

TITLES = {
    "panoptic": "Segments (panoptic)",
    "instance": "Objects (instances)",
    "entity": "Entities",
    "semantic": "Pixels (semantic)",
}


@dataclass(frozen=True, slots=True)
class Section:
    """Of a page.

    Args:
        kind: of TITLES.
        metadata: with the classes of its numbers.
    """

    kind: str
    metadata: Metadata
    collector: FailureCollector[Any]
