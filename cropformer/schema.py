"""The section of the config that entities bring, under its published names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from segcore.keys import ignored, number


@dataclass
class Entity:
    """ENTITY: class-agnostic results, and the crops and the fusion of CropFormer.

    CROP_AREA_RATIO and CROP_STRIDE_RATIO are fractions of a side, despite the name.
    """

    IGNORED: ClassVar[str] = "FUSE_DEC_NUM_LAYERS FUSE_ENC_LAST_LAYERS"

    ENABLE: bool = False
    CROP_AREA_RATIO: float = 0.7
    CROP_STRIDE_RATIO: float = 0.6
    CROP_SAMPLE_NUM_TRAIN: int = number(1, low=0)
    CROP_SAMPLE_NUM_TEST: int = number(4, low=0)
    FUSE_NUM_LAYERS: int = 1
    FUSE_ENC_HIDDIEN_DIM: int = number(256, low=1)
    FUSE_ENC_NHEADS: int = number(8, low=1, divides="FUSE_ENC_HIDDIEN_DIM")
    FUSE_ENC_PRE_NORM: bool = ignored(False)
    FUSE_ENC_DIM_FEEDFORWARD: int = number(2048, low=1)


SECTIONS = {"ENTITY": Entity}
