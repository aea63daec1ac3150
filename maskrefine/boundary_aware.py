"""Boundary-aware refinement: a finer mask counts near the boundary of the coarser one only.

RefineMask (arXiv 2104.08569), section 3.3.
Legend of one-letter names: R regions (boxes), s cells on a side of a region.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from maskrefine.layers import cross_entropy, mean


def band(masks: Tensor, width: int) -> Tensor:
    """Cells near a mask's boundary: (R, 1, s, s) bool -> the same.

    A cell is near if more than a tenth of the cells within `width` are of the other kind. Outside
    is background to what is inside, and nothing to the background.
    """
    inside = masks.float()
    share = F.avg_pool2d(inside, 2 * width + 1, stride=1, padding=width)  # of these cells
    other = inside * (1 - share) + (1 - inside) * share
    return other > 0.1


def doubled(maps: Tensor) -> Tensor:
    """(R, C, s, s) -> (R, C, 2 s, 2 s), corner to corner."""
    size = 2 * maps.shape[-1]
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=True)


def finer_in_band(coarse: Tensor, fine: Tensor) -> Tensor:
    """Fine logits (R, 1, 2 s, 2 s) near the boundary of coarse ones (R, 1, s, s); else these."""
    near = doubled(band(coarse.sigmoid() >= 0.5, width=1).float()) >= 0.5
    return fine.where(near, doubled(coarse))


def merged(stages: Sequence[Tensor]) -> list[Tensor]:
    """Logits at test time: each stage keeps to the boundary of what came before it.

    Args:
        stages: (R, 1, s, s), each twice the size of the one before; the first is not used.
    """
    out = list(stages[:2])
    for fine in stages[2:]:
        out.append(finer_in_band(out[-1], fine))
    return out


def stage_losses(stages: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[Tensor]:
    """Cross-entropy of every stage; from the third on near two boundaries only.

    These are the boundaries of what the stages before say together, and of the truth.

    Args:
        stages: logits (R, 1, s, s), each twice the size of the one before.
        wanted: (R, 1, s, s) bool.
    """
    losses = [mean(cross_entropy(*pair)) for pair in zip(stages[:2], wanted[:2], strict=True)]
    before = stages[1].detach()
    for i in range(2, len(stages)):
        near = band(before.sigmoid() >= 0.5, width=2) | band(wanted[i - 1], width=2)
        near = doubled(near.float()) >= 0.5
        losses.append((cross_entropy(stages[i], wanted[i]) * near).sum() / near.sum().clamp(min=1))
        before = finer_in_band(before, stages[i].detach())
    return losses
