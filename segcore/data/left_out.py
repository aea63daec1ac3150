"""Shapes that are no masks: readers of annotation tools' files leave them out, and say how many."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

logger = logging.getLogger(__name__)


def warn_left_out(path: Path, kinds: Counter[str]) -> None:
    """At the end of a file: how much of it is no mask.

    Args:
        kinds: how many there are by what they are, in the plural: "boxes".
    """
    if kinds:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        logger.warning("%s: %s have no mask; left out", path, listed)
