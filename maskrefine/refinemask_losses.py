"""What RefineMask learns: its targets and its losses, as in the released program.

Legend of one-letter names: B samples, R regions (boxes), H W input pixels, h w feature cells,
s cells on a side of a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.boundary_aware import stage_losses
from maskrefine.layers import cross_entropy, mean
from maskrefine.targets import mask_targets
from segcore.structures import Regions, Size, Targets

WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # of the four stages
SIMPLE_WEIGHTS = (0.5, 0.75, 0.75, 1.0)
LEAST_SIDE = 1.0  # pixels of a box in which a polygon is drawn


def refinemask_losses(
    regions: Regions, targets: Sequence[Targets], *, weights: Sequence[float] = WEIGHTS
) -> dict[str, Tensor]:
    """The losses of the mask head, weighted and named as published.

    Args:
        regions: as `RefineMaskHead` returned them in training.
        weights: of the stages; `SIMPLE_WEIGHTS` for the simple variant.
    """
    wanted = instance_targets(regions, targets, [m.shape[-1] for m in regions.logits])
    parts = zip(weights, stage_losses(regions.logits, wanted), strict=True)
    losses = {"loss_instance": torch.stack([weight * loss for weight, loss in parts]).sum()}
    if (semantic := regions.extras.get("semantic")) is not None:
        h, w = semantic.shape[-2:]
        foreground = semantic_targets(targets, (h, w))
        losses["loss_semantic"] = mean(cross_entropy(semantic, foreground))
    return losses


def instance_targets(
    regions: Regions, targets: Sequence[Targets], sizes: Sequence[int]
) -> list[Tensor]:
    """Each region's object inside its box, clipped to the padded image: (R, 1, s, s) bool each."""
    H, W = targets[0].masks.shape[-2:]
    limit = torch.tensor((W, H, W, H)).to(regions.boxes)
    inside = replace(regions, boxes=torch.minimum(regions.boxes.clamp(min=0), limit))
    return [mask_targets(inside, targets, s, least_side=LEAST_SIDE)[:, None] for s in sizes]


def semantic_targets(targets: Sequence[Targets], size: Size) -> Tensor:
    """Pixels of any object, at the size h w of the finest features: (B, 1, h, w) bool."""
    anything = torch.stack([target.masks.any(0) for target in targets])  # (B, 1, H, W)
    return F.interpolate(anything.float(), size, mode="bilinear") >= 0.5
