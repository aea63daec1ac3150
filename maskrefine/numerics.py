"""In what two published detectors differ, so that the checkpoints of both score as published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from maskrefine.fpn import fan_in_uniform
from maskrefine.opencv_resize import resize_image
from maskrefine.regions import MMDET_LEVELS
from segcore.data.transforms import Resample, pillow


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """One detector's habits.

    Args:
        levels: arguments of `pyramid_levels`.
        shrink_limited: predicted widths and heights are clamped below as above, at 1000 / 16.
        empty_kept: proposals and detections without area stay.
        ranked_by_probability: proposals are ordered by the sigmoid of their logits, which has
            more ties.
        best_anchors: intersection over union from which an object keeps its best anchors, however
            low; 0: always.
        best_regions: the same of proposals; None: only the threshold counts.
        best_rematched: what is kept so is also matched with that object.
        truth_matched: true boxes that join the proposals are matched like them, by overlap with
            each other; else each with itself.
        padding_divisor: anchors outside the image's own padding to a multiple of this are not
            trained; None: all of the batch's canvas are.
        rpn_per_sample: losses of anchors are divided by the number that may be drawn; else by the
            number that was.
        box_weight: of both losses of the box head.
        least_side: in pixels, of a box in which a polygon is rasterised.
        resample: how images are resized.
        fill: initialises weights of the pyramid and of the box head's hidden layers.
    """

    levels: Mapping[str, Any]
    shrink_limited: bool
    empty_kept: bool
    ranked_by_probability: bool
    best_anchors: float
    best_regions: float | None
    best_rematched: bool
    truth_matched: bool
    padding_divisor: int | None
    rpn_per_sample: bool
    box_weight: float
    least_side: float
    resample: Resample
    fill: Callable[[Tensor], object]


NUMERICS = {
    "detectron2": Numerics(
        levels={},
        shrink_limited=False,
        empty_kept=False,
        ranked_by_probability=False,
        best_anchors=0.0,
        best_regions=None,
        best_rematched=False,
        truth_matched=True,
        padding_divisor=None,
        rpn_per_sample=True,
        box_weight=1.0,
        least_side=0.1,
        resample=pillow,
        fill=fan_in_uniform,
    ),
    "mmdet": Numerics(  # version 2.3, with the box losses of RefineMask's configurations
        levels=MMDET_LEVELS,
        shrink_limited=True,
        empty_kept=True,
        ranked_by_probability=True,
        best_anchors=0.3,
        best_regions=0.5,
        best_rematched=True,
        truth_matched=False,
        padding_divisor=32,
        rpn_per_sample=False,
        box_weight=2.0,
        least_side=1.0,
        resample=resize_image,
        fill=nn.init.xavier_uniform_,
    ),
}
