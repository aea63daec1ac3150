"""Boxes in a feature pyramid: which level each one reads, and what it reads there; which ones stay.

The only door to torchvision.
Legend of one-letter names: B samples, R regions (boxes), L levels, C channels, h w feature cells,
s cells on a side of a pooled region.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops
from torchvision.ops import batched_nms, box_iou, deform_conv2d, roi_align

__all__ = [
    "MMDET_LEVELS",
    "STRIDES",
    "box_iou",
    "deform_conv",
    "nms",
    "pool",
    "pyramid_levels",
    "suppress",
]

STRIDES = (4, 8, 16, 32)  # of P2..P5


def pyramid_levels(
    boxes: Tensor,
    *,
    size: float = 224.0,
    canonical: int = 4,
    finest: int = 2,
    levels: int = 4,
    epsilon: float = 1e-8,
) -> Tensor:
    """Which level of a pyramid each box (R, 4) reads: (R,) int64, 0 the finest.

    Large boxes read coarse levels (Feature Pyramid Networks, equation 1). The defaults are
    detectron2's; `MMDET_LEVELS` has mmdetection's, which differ in their rounding only.

    Args:
        size: side in pixels of a square box that reads level `canonical`.
        finest: number of the level that is called 0 here.
    """
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    level = torch.floor(canonical + torch.log2((w * h).sqrt() / size + epsilon)) - finest
    return level.clamp(0, levels - 1).long()


MMDET_LEVELS = {"size": 56.0, "canonical": 0, "finest": 0, "epsilon": 1e-6}


def pool(
    features: Sequence[Tensor],
    sample: Tensor,
    boxes: Tensor,
    size: int,
    *,
    level: Tensor | None = None,
    strides: Sequence[int] = STRIDES,
    sampling: int = 0,
) -> Tensor:
    """RoIAlign (aligned) of every box from its level: (R, C, s, s) float32.

    Args:
        features: L maps (B, C, h, w), fine to coarse. In half precision they are read in float32:
            a half cannot tell neighbouring pixels apart.
        sample: (R,) whose features each box reads.
        boxes: (R, 4) in input pixels.
        size: s, cells on a side.
        level: (R,) 0..L-1; None: the only one.
        sampling: points on a side of a cell; 0: one for every feature cell that it covers.
    """
    rois = torch.cat((sample[:, None].to(boxes), boxes), dim=1).float()  # (R, 5)
    if level is None:
        (feature,), (stride,) = features, strides[:1]
        return roi_align(feature.float(), rois, size, 1 / stride, sampling, aligned=True)
    order = level.argsort()
    counts = level.bincount(minlength=len(features)).tolist()  # waits for a device, once
    pooled = [
        roi_align(feature.float(), part, size, 1 / stride, sampling, aligned=True)
        for feature, part, stride in zip(features, rois[order].split(counts), strides, strict=True)
    ]
    return torch.cat(pooled)[order.argsort()]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that stay, best first; of equal scores the first box comes first.

    Args:
        boxes: (R, 4)
        scores: (R,)
        iou_threshold: a box goes where its IoU with a better one that stays is larger.
    """
    return ops.nms(boxes, scores, iou_threshold)


def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression inside each group: rows that stay, best first.

    How many stay is known on the host: here a device is waited for, once a call.

    Args:
        boxes: (R, 4) float32.
        scores: (R,).
        groups: (R,) level or class; boxes of different groups do not see each other.
        threshold: intersection over union above which the lesser of two boxes goes.
    """
    return batched_nms(boxes.float(), scores.float(), groups, threshold)


def deform_conv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Deformable convolution (Dai et al., 2017): (B, C, h, w) -> (B, D, h', w').

    Args:
        offset: (B, 2 k k, h', w') how far each sample is moved: y, x, y, x ...
        weight: (D, C / groups, k, k).
    """
    return deform_conv2d(x, offset, weight, bias, stride=stride, padding=padding)
