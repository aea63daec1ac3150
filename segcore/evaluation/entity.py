"""AP of entities: COCO's mask AP with every class made one (AP^e, Qi et al., 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from segcore import masks
from segcore.evaluation.instance import InstanceEvaluator
from segcore.structures import Metadata, Record, Result


class EntityEvaluator:
    """APe, APe50 ..., and the share of pixels that some entity covers; any data set will do.

    Whether predictions overlap is the model's affair; like the published evaluation, this one
    does not ask.
    """

    def __init__(self, metadata: Metadata, *, boundary: bool = False) -> None:
        self.inner = InstanceEvaluator(metadata.as_entities(), boundary=boundary)
        self.parts: list[Any] = self.inner.parts  # one an image

    def update(self, result: Result, record: Record) -> None:
        """Every segment of the truth, thing or stuff, is an entity."""
        frame = record.frames[0]
        segments = tuple(replace(s, category=0) for s in frame.segments)
        self.inner.update(result, replace(record, frames=(replace(frame, segments=segments),)))

    def compute(self) -> dict[str, float]:
        """APe, APe50, APe75, APes, APem, APel (with boundary: "boundary APe" ...), covered."""
        self.inner.parts = self.parts  # gathered by now
        names = self.inner.compute()
        found = {
            k.replace("AP", "APe", 1).replace("AR", "ARe", 1): v
            for k, v in names.items()
            if "-" not in k
        }
        if not self.inner.boundary:
            found["covered"] = 100 * float(np.mean([_covered(p) for p in self.parts] or [0.0]))
        return found


def _covered(part: Any) -> float:
    rles = [rle for _, rle, _ in part.found]
    return float(masks.area(rles).sum()) / (part.size[0] * part.size[1]) if rles else 0.0
