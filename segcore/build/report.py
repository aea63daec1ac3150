"""What a report of failures collects during an evaluation."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from segcore.config import Config
from segcore.data.catalog import Catalog
from segcore.report.collector import FailureCollector, segments_collector
from segcore.report.pixels import pixel_outcome, pixel_reasons
from segcore.report.section import Section
from segcore.report.segments import compare_as
from segcore.structures import Metadata

logger = logging.getLogger(__name__)

KINDS = ("panoptic", "instance", "semantic")  # the first that there is has pictures


def reported(cfg: Config, catalog: Catalog, *, last: bool) -> list[str]:
    """Test sets whose evaluation ends with a report, as TEST.REPORT says.

    Args:
        last: nothing is evaluated after it.
    """
    names, when = cfg.DATASETS.TEST, cfg.TEST.REPORT
    if when == "auto":
        return [name for name in names if last and not catalog.comes_along(name)]
    return [*names] if when == "always" else []


def build_sections(measured: set[str], catalog: Catalog, metadata: Metadata) -> list[Section]:
    """Of each kind of result that is measured; none, and a line that says so, without a truth.

    Args:
        measured: kinds of results.
    """
    name = metadata.name
    if not metadata.evaluators or not catalog.annotated(name):
        logger.warning("%s has no annotations: there is no report of where a model fails", name)
        return []
    if "entity" in measured:
        shown = metadata.as_entities()
        return [Section("entity", shown, segments_collector(compare_as("entity", metadata), 1))]
    sections = []
    for kind in KINDS:
        if kind in measured:
            collector = _collector(kind, catalog, metadata)
            sections.append(Section(kind, metadata, collector))
    if not sections:
        what = ", ".join(sorted(measured)) or "nothing"
        logger.warning("%s: no report, %s is measured; there are reports of %s",
                       name, what, ", ".join((*KINDS, "entity")))  # fmt: skip
    return sections


def _collector(kind: str, catalog: Catalog, metadata: Metadata) -> FailureCollector[Any]:
    K = len(metadata.classes)
    if kind == "semantic":
        outcome_of = partial(pixel_outcome, metadata=metadata)
        return FailureCollector(outcome_of, pixel_reasons, K)
    truth = catalog.truth(metadata.name, metadata) if kind == "instance" else None
    return segments_collector(compare_as(kind, metadata, truth), K)
