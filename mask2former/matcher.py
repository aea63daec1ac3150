"""One-to-one assignment of queries to segments at least total cost (DETR; section 3.2 here).

Legend of one-letter names: B samples, T views, Q queries, N segments, P points.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segcore.nn.points import sample_bool, sample_points
from segcore.structures import Prediction, Targets

logger = logging.getLogger(__name__)

Pairs = list[tuple[Tensor, Tensor]]  # per sample: matched queries (ascending), their segments

LIMIT = 1e10  # costs are kept within, so that a diverging run can still be assigned and reported


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the class, mask and dice terms, in costs and losses alike."""

    label: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@dataclass(frozen=True, slots=True)
class Matcher:
    """Costs at the same random points for all masks of a sample, views one after the other."""

    cost: Weights
    num_points: int = 12544

    @torch.no_grad()
    def __call__(self, layers: list[Prediction], targets: list[Targets]) -> list[Pairs]:
        """Pairs of every layer; all costs reach the CPU in one copy."""
        costs = [
            self._cost(logits, masks, target)
            for layer in layers
            for logits, masks, target in zip(layer.logits, layer.masks, targets, strict=True)
        ]
        shapes = [cost.shape for cost in costs]
        flat = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        if not np.isfinite(flat).all():
            _say_once()
            flat = np.nan_to_num(flat, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
        parts = np.split(flat.clip(-LIMIT, LIMIT), np.cumsum([s.numel() for s in shapes])[:-1])
        pairs = [_assign(p.reshape(tuple(s))) for p, s in zip(parts, shapes, strict=True)]
        B = len(targets)
        return [pairs[i : i + B] for i in range(0, len(pairs), B)] if B else [[] for _ in layers]

    def _cost(self, logits: Tensor, masks: Tensor, target: Targets) -> Tensor:
        """(Q, K+1), (Q, T, h, w) -> (Q, N)"""
        points = torch.rand(1, self.num_points, 2, device=masks.device)  # the same for every mask
        with torch.autocast(masks.device.type, enabled=False):
            pred = sample_points(masks.float(), points).flatten(1)  # (Q, T*P)
            goal = sample_bool(target.masks, points).flatten(1)  # (N, T*P)
            probs = logits.float().softmax(-1)[:, target.labels]
            cost = self.cost.mask * pairwise_bce(pred, goal) - self.cost.label * probs
            return cost + self.cost.dice * pairwise_dice(pred, goal)


@cache
def _say_once() -> None:
    logger.warning("matching costs are not finite: the training diverges (rate too high?)")


def pairwise_bce(logits: Tensor, goal: Tensor) -> Tensor:
    """Mean binary cross-entropy of each row of logits (Q, P) with each row of goal (N, P)."""
    # softplus(-x) g + softplus(x) (1 - g) = softplus(x) - x g; written out it is faster on a CPU
    softplus = logits.clamp(min=0) + logits.abs().neg_().exp_().log1p_()
    return (softplus.sum(1)[:, None] - logits @ goal.T) / max(1, logits.shape[1])


def pairwise_dice(logits: Tensor, goal: Tensor) -> Tensor:
    """Dice cost of each row of logits (Q, P) with each row of goal (N, P)."""
    probs = logits.sigmoid()
    return 1 - (2 * probs @ goal.T + 1) / (probs.sum(1)[:, None] + goal.sum(1)[None] + 1)


def _assign(cost: np.ndarray) -> tuple[Tensor, Tensor]:
    queries, segments = linear_sum_assignment(cost)
    return torch.from_numpy(queries), torch.from_numpy(segments)
