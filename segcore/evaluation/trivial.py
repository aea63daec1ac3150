"""Metrics that praise a model for one answer."""

from __future__ import annotations

import logging

from segcore.structures import Metadata

logger = logging.getLogger(__name__)


def warn_trivial(metadata: Metadata, k: int, metric: str) -> None:
    """Say that a model which always answers class `k` is perfect on this data set.

    Args:
        metric: that says 100 then.
    """
    logger.warning(
        "%s: every annotated pixel is %r, the others are ignored: a model that always says so has"
        " %s 100, so these numbers say nothing; give the other pixels a class",
        *(metadata.name, metadata.row_names[k], metric),
    )
