"""AP of entities: COCO's mask AP with every class made one (AP^e, Qi et al., 2023)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segcore import masks
from segcore.evaluation.coco_ap import Part
from segcore.evaluation.instance import InstanceEvaluator
from segcore.structures import Metadata, Record, Result


class EntityEvaluator:
    """APe, APe50 ..., Boundary APe ..., and the share of pixels that some entity covers.

    Any data set will do. Whether predictions overlap is the model's affair; like the published
    evaluation, this one does not ask.

    Args:
        max_dets: the surest predictions of an image that count; None: 100, as published.
    """

    def __init__(self, metadata: Metadata, *, max_dets: int | None = None) -> None:
        self.inner = InstanceEvaluator(
            metadata.as_entities(), kinds=("instance", "boundary"), max_dets=max_dets
        )
        self.parts: list[Part] = self.inner.parts  # one an image

    def update(self, result: Result, record: Record) -> None:
        """Every segment of the truth, thing or stuff, is an entity."""
        frame = record.frames[0]
        segments = tuple(replace(s, category=0) for s in frame.segments)
        self.inner.update(result, replace(record, frames=(replace(frame, segments=segments),)))

    def compute(self) -> dict[str, float]:
        """APe, APe50, APe75, APes, APem, APel, the same of boundaries, and `covered`."""
        self.inner.parts = self.parts  # gathered by now
        metrics = {
            name.replace("AP", "APe", 1).replace("AR", "ARe", 1): value
            for name, value in self.inner.compute().items()
            if "-" not in name
        }
        shares = [_covered(part) for part in self.parts] or [0.0]
        return metrics | {"covered": 100 * float(np.mean(shares))}


def _covered(part: Part) -> float:
    rles = [rle for _, rle, _ in part.predictions]
    return float(masks.area(rles).sum()) / (part.size[0] * part.size[1]) if rles else 0.0
