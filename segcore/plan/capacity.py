"""How many objects of an image the network can say, and how small they may be.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segcore.plan.choices import TWO_STAGE
from segcore.plan.decision import Decision, rounded, rounded_up
from segcore.plan.facts import DataFacts

ROOM = 1.1  # times the objects of a crowded image: others may have more
COUNTED = 100  # predictions of an image and class: what AP counts by COCO's rule
STEP = 50  # queries and detections are rounded up to
MOST_CLASS_QUERIES = 128
PROPOSALS = 4  # for each object of a crowded image
MOST_PROPOSALS = 2000
LEVELS = 5  # of the pyramid: one size of anchors each
SMALLEST, LARGEST = 8, 32  # of the first level's
RATIO = (2.0, 2.7)  # from level to level


def capacity(
    data: DataFacts,
    task: str,
    network: str,
    base: Mapping[str, Any],
    edge: int,
    shown: float = 1.0,
) -> list[Decision]:
    """Queries, detections, proposals and anchors.

    Args:
        base: the values of the config that is built on, by dotted key.
        edge: shorter one of an image at test time; 0: as the files are.
        shown: share of an image's objects that a training crop shows.
    """
    if task == "semantic":
        return _class_queries(len(data.classes), base)
    crowded = data.objects(99)
    number = rounded_up(ROOM * crowded, STEP)
    why = f"99 of 100 images have at most {crowded:.0f} objects (median {data.objects(50):.0f})"
    detections = max(base["TEST.DETECTIONS_PER_IMAGE"], number)
    decisions = [Decision("TEST.DETECTIONS_PER_IMAGE", detections, f"{why}; a tenth more as room")]
    if detections > COUNTED:
        why_all = f"all of them count; COCO's AP is of the {COUNTED} surest of an image and class"
        decisions.append(Decision("TEST.AP_DETECTIONS", detections, why_all))
    if network != TWO_STAGE:
        queries = max(base["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"], number)
        key = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"
        return [Decision(key, queries, f"{why}; each takes a query"), *decisions]
    for when, objects in (("TRAIN", crowded * shown), ("TEST", crowded)):
        proposals = min(rounded_up(PROPOSALS * objects, 100), MOST_PROPOSALS)
        for kind in ("PRE", "POST"):
            key = f"MODEL.RPN.{kind}_NMS_TOPK_{when}"
            why = f"{PROPOSALS} for each of {objects:.0f} objects, and no fewer than the base has"
            decisions.append(Decision(key, max(base[key], proposals), why))
    return decisions + _anchors(data, edge or data.edge)


def _class_queries(count: int, base: Mapping[str, Any]) -> list[Decision]:
    """A mask a class: as many queries as twice the classes."""
    key = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"
    queries = max(base[key], min(rounded_up(2 * count, 8), MOST_CLASS_QUERIES))
    return [Decision(key, queries, f"{count} classes, one mask each, and as many to choose from")]


def _anchors(data: DataFacts, edge: int) -> list[Decision]:
    """From small to large objects, as the network sees them."""
    if not len(data.sides):
        return []
    small, large = data.small * edge, data.share(98) * edge
    first = min(max(rounded(small, 4), SMALLEST), LARGEST)
    ratio = min(max((large / first) ** (1 / (LEVELS - 1)), RATIO[0]), RATIO[1])
    sizes = [[round(first * ratio**i)] for i in range(LEVELS)]
    why = f"objects are {small:.0f} to {large:.0f} pixels across (10th to 98th percentile)"
    return [Decision("MODEL.ANCHOR_GENERATOR.SIZES", sizes, f"{why}, as the network sees them")]
