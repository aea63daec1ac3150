"""One-to-one assignment of queries to segments at least total cost (DETR; section 3.2 here).

Legend of one-letter names: L layers, B samples, T views, Q queries, N segments, P points,
K classes, h w mask cells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segcore.nn.points import sample_bool
from segcore.nn.sampled_masks import SampledMasks, sample_masks, stacked
from segcore.structures import Prediction, Targets

logger = logging.getLogger(__name__)

Pairs = list[tuple[Tensor, Tensor]]  # per sample: matched queries (ascending), their segments

LARGE = 1 << 20  # costs in all from which threads gain more than they take
LIMIT = 1e10  # costs are kept within, so that a diverging run can still be assigned and reported


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the class, mask and dice terms, in costs and losses alike."""

    label: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@dataclass(frozen=True, slots=True)
class Matcher:
    """Costs at the same random points for all masks of a sample, views one after the other.

    Args:
        draw: makes random numbers between 0 and 1, as `torch.rand`.
    """

    cost: Weights
    num_points: int = 12544
    draw: Callable[..., Tensor] = torch.rand

    @torch.no_grad()
    def __call__(self, layers: list[Prediction], targets: list[Targets]) -> list[Pairs]:
        """Pairs of every layer; segments that show in no view have none.

        All costs reach the CPU in one copy, and who shows with them.
        """
        with torch.autocast(layers[0].masks.device.type, enabled=False):
            costs = self._costs(layers, targets)
        shown = torch.cat([target.present for target in targets]).any(1)  # (all N,)
        flat = torch.cat([shown.to(costs[0].dtype), *(cost.flatten() for cost in costs)])
        numbers = flat.cpu().numpy()
        columns, numbers = numbers[: len(shown)] > 0, numbers[len(shown) :]
        if not np.isfinite(numbers).all():
            _say_once()
            numbers = np.nan_to_num(numbers, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
        numbers = numbers.clip(-LIMIT, LIMIT)
        given: list[tuple[np.ndarray, np.ndarray]] = []  # all layers of a sample, then the next's
        for cost in costs:  # (L, Q, N)
            here, numbers = numbers[: cost.numel()].reshape(cost.shape), numbers[cost.numel() :]
            (segments,), columns = columns[: cost.shape[2]].nonzero(), columns[cost.shape[2] :]
            given += [(matrix, segments) for matrix in here]
        assigned = _assign_all(given)
        return [assigned[i :: len(layers)] for i in range(len(layers))]

    def _costs(self, layers: list[Prediction], targets: list[Targets]) -> list[Tensor]:
        """Of every sample, (L, Q, N)."""
        L, B, P = len(layers), len(targets), self.num_points
        points = self.draw(L, B, P, 2, device=layers[0].masks.device)
        each = [sample_masks(x.masks, at) for x, at in zip(layers, points, strict=True)]
        sampled = stacked(each)  # (L, B, Q, T*P) twice, (L, B, Q)
        probs = torch.stack([x.logits for x in layers]).float().softmax(-1)  # (L, B, Q, K+1)
        costs = []
        for b, target in enumerate(targets):
            goal = sample_bool(target.masks, points[:, b].flatten(0, 1))  # (N, T, L*P)
            goal = goal.unflatten(2, (L, P)).permute(2, 0, 1, 3).flatten(2)  # (L, N, T*P)
            mine = SampledMasks(*(x[:, b] for x in sampled))
            cost = self.cost.mask * pairwise_bce(mine, goal)
            cost = cost - self.cost.label * probs[:, b, :, target.labels]
            costs.append(cost + self.cost.dice * pairwise_dice(mine, goal))
        return costs


@cache
def _say_once() -> None:
    logger.warning("matching costs are not finite: the training diverges (rate too high?)")


def pairwise_bce(masks: SampledMasks, goal: Tensor) -> Tensor:
    """Mean binary cross-entropy of each mask (..., Q) with each row of goal (..., N, P)."""
    # softplus(-x) g + softplus(x) (1 - g) = softplus(x) - x g
    total = masks.softplus[..., None] - masks.values @ goal.mT
    return total / max(1, goal.shape[-1])


def pairwise_dice(masks: SampledMasks, goal: Tensor) -> Tensor:
    """Dice cost of each mask (..., Q) with each row of goal (..., N, P)."""
    sizes = masks.probs.sum(-1)[..., None] + goal.sum(-1)[..., None, :]
    return 1 - (2 * (masks.probs @ goal.mT) + 1) / (sizes + 1)


def _assign_all(given: list[tuple[np.ndarray, np.ndarray]]) -> Pairs:
    """`_assign` of each; many large ones side by side, as SciPy's solver lets go of Python's lock.

    A solver's time grows with the cube of the queries: 1,500 of 1,500 take half a second.
    """
    if sum(cost.size for cost, _ in given) < LARGE:
        return [_assign(cost, segments) for cost, segments in given]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(_assign, *zip(*given, strict=True)))


def _assign(cost: np.ndarray, segments: np.ndarray) -> tuple[Tensor, Tensor]:
    """(Q, N), of which some segments count."""
    queries, columns = linear_sum_assignment(cost[:, segments])
    return torch.from_numpy(queries), torch.from_numpy(segments[columns])
