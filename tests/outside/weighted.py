"""Mask2Former with losses of another weight: a section beside those that it has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mask2former import build as mask2former
from mask2former.schema import SECTIONS as MASK2FORMER
from segcore.config import section
from segcore.keys import number


@dataclass
class Weighted:
    MASKS: float = number(1.0, low=0)


SECTIONS = {**MASK2FORMER, "MODEL.WEIGHTED": Weighted}


def build(cfg, metadata):
    factor = section(cfg, "MODEL.WEIGHTED", Weighted).MASKS
    task = mask2former.build(cfg, metadata)

    def losses(*given):
        named = task.losses(*given)
        return {name: x * factor if "mask" in name else x for name, x in named.items()}

    return replace(task, losses=losses)
