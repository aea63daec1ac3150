"""What Mask Transfiner learns: its targets and its losses, as in the released program.

Legend of one-letter names: B samples, R regions (boxes), N objects of a sample, H W input pixels,
h w feature cells, S tokens of all boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.layers import cross_entropy, mean
from maskrefine.quadtree import Cells
from maskrefine.regions import pool
from maskrefine.targets import mask_targets, shown
from segcore.structures import Regions, Size, Targets

LOST = 0.01  # change of a pixel by halving and doubling that makes it incoherent
TOUCHED = 0.05  # share of incoherent pixels that makes a cell incoherent
LEAST_SIDE = 0.1  # pixels of a box in which a polygon is drawn


def transfiner_losses(regions: Regions, targets: Sequence[Targets]) -> dict[str, Tensor]:
    """The five losses of the mask head, weighted and named as published.

    Where there is nothing to learn from, a loss is zero.

    Args:
        regions: as `TransfinerHead` returned them in training.
    """
    extras = regions.extras
    wanted = mask_targets(regions, targets, 28, least_side=LEAST_SIDE)
    h, w = extras["semantic"].shape[-2:]
    incoherent, semantic = pixel_targets(regions, targets, (h, w))
    tokens = extras["tokens"] - token_targets(regions, targets)
    return {
        "loss_mask": mean(cross_entropy(regions.logits[-1][:, 0], wanted)),
        "loss_mask_uncertain": 0.5 * _uncertain_loss(extras["uncertain"][:, 0], incoherent),
        "loss_mask_refine": mean(tokens.abs()),
        "loss_semantic": 0.25 * mean(cross_entropy(extras["semantic"], semantic)),
        "loss_bound": mean(cross_entropy(extras["boundary"][:, 0], boundary(wanted))),
    }


def incoherence(maps: Tensor) -> Tensor:
    """Pixels that do not survive halving and doubling: (n, 1, H, W) -> (n, 1, H//2, W//2)."""
    size = maps.shape[-2:]
    half = (size[0] // 2, size[1] // 2)
    small = F.interpolate(maps, half, mode="bilinear")
    lost = (maps - F.interpolate(small, size, mode="bilinear")).abs()
    lost = F.interpolate(lost, half, mode="bilinear")
    return torch.where(lost >= LOST, 1.0, lost)


def boundary(masks: Tensor) -> Tensor:
    """Cells on either side of a mask's boundary, 4-connected: (R, s, s) bool -> the same.

    The box's own border is no boundary.
    """
    inside = masks.float()[:, None]
    cross = inside.new_tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])[None, None]
    sum_in = F.conv2d(inside, cross, padding=1)
    sum_out = F.conv2d(1 - inside, cross, padding=1)
    return ((sum_in > 0) & (sum_out > 0))[:, 0]


@torch.no_grad()
def pixel_targets(
    regions: Regions, targets: Sequence[Targets], size: Size
) -> tuple[Tensor, Tensor]:
    """Which cells (R, 28, 28) are incoherent, which pixels (B, 1, h, w) any region's object: bool.

    Args:
        size: h and w of the finest features.
    """
    assert regions.matched is not None
    R, device = len(regions.boxes), regions.boxes.device
    cells = torch.zeros(R, 28, 28, dtype=torch.bool, device=device)
    semantic = torch.zeros(len(targets), 1, *size, dtype=torch.bool, device=device)
    for b, target in enumerate(targets):
        H, W = target.size or target.masks.shape[-2:]
        rows = (regions.sample == b).nonzero()[:, 0]
        for maps, some, place in shown(target.masks[..., :H, :W], regions.matched[rows]):
            # published: the image without padding is stretched over the features with padding
            semantic[b] |= F.interpolate(maps, size).amax(0) >= 1
            boxes = regions.boxes[rows[some]]
            share = pool([incoherence(maps)], place, boxes, 28, strides=(2,))
            cells[rows[some]] = share[:, 0] >= TOUCHED
    return cells, semantic


def token_targets(regions: Regions, targets: Sequence[Targets]) -> Tensor:
    """Whether each token's cell is foreground: (S,) float, grid by grid as the tokens are."""
    assert regions.matched is not None
    out = []
    for grid in (14, 28, 56, 112):
        if (key := f"cells{grid}") not in regions.extras:
            continue
        region, cell = regions.extras[key]
        rows, box = region.unique(return_inverse=True)
        refined = Regions(
            regions.sample[rows],
            regions.boxes[rows],
            regions.labels[rows],
            matched=regions.matched[rows],
        )
        masks = mask_targets(refined, targets, grid, least_side=LEAST_SIDE)
        out.append(Cells(grid, box, cell).read(masks[:, None].float()))
    return torch.cat(out)


def _uncertain_loss(uncertain: Tensor, wanted: Tensor) -> Tensor:
    """Dice and cross-entropy of probabilities (R, 28, 28)."""
    wanted = wanted.float()
    shared = 2 * (uncertain * wanted).sum((1, 2))
    total = uncertain.sum((1, 2)) + wanted.sum((1, 2))
    dice = 1 - (shared + 1) / (total + 1)
    with torch.autocast(uncertain.device.type, enabled=False):  # which refuses this loss
        entropy = F.binary_cross_entropy(uncertain, wanted, reduction="none")
    return mean(dice) + mean(entropy)
