"""Losses of all decoder layers: classes, and masks at uncertain points (section 3.2, 3.3).

Legend of one-letter names: L layers, B samples, T views, Q queries, N segments, M matched pairs of
a layer (all layers have as many), P points, K classes, h w mask cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.matcher import Matcher, Pairs, Weights
from segcore.nn.points import as_quickly_read, sample_points, sample_rows
from segcore.pinned import upload
from segcore.structures import Prediction, Targets

Item = TypeVar("Item")

MASK_TERMS = ("loss_mask", "loss_dice")
BUDGET = 1 << 28  # values of the largest tensor that is made for the losses of several layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """Set prediction loss with deep supervision.

    Args:
        no_object: weight of the no-object class in the cross-entropy.
        num_points: per mask, of which `importance` are the most uncertain of a draw of
            `oversample` times as many (PointRend).
        published_order: layer by layer, so that random points are drawn in the published order;
            without it all layers are matched at once, for a single copy to the host. None: on the
            CPU alone.
        draw: makes random numbers between 0 and 1, as `torch.rand`.
    """

    matcher: Matcher
    weights: Weights
    no_object: float = 0.1
    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    published_order: bool | None = None
    draw: Callable[..., Tensor] = torch.rand

    def __call__(
        self, layers: list[Prediction], targets: list[Targets], num_segments: float | Tensor
    ) -> dict[str, Tensor]:
        """Weighted losses: `loss_mask` is the last layer's, `loss_mask_0` the first's.

        Args:
            num_segments: what the mask losses are divided by: segments a batch, averaged over
                ranks and accumulated batches. The trainer counts; this class knows of neither.
        """
        targets = [replace(t, masks=as_quickly_read(t.masks)) for t in targets]
        ordered = [layers[-1], *layers[:-1]]  # the published order
        on_host = not layers[0].logits.is_cuda
        alone = on_host if self.published_order is None else self.published_order
        terms: list[Tensor] = []
        for group in _split(ordered, 1 if alone else len(ordered)):
            matched = self.matcher(group, targets)
            step = self._layers_at_once(group[0], matched[0])
            for part, pairs in zip(_split(group, step), _split(matched, step), strict=True):
                with torch.autocast(layers[0].logits.device.type, enabled=False):
                    terms.append(self._losses(part, targets, pairs, num_segments))
        suffixes = ["", *(f"_{i}" for i in range(len(layers) - 1))]
        names = [f"{name}{suffix}" for suffix in suffixes for name in ("loss_ce", *MASK_TERMS)]
        return dict(zip(names, torch.cat(terms).flatten().unbind(), strict=True))

    def _layers_at_once(self, layer: Prediction, pairs: Pairs) -> int:
        """How many layers' losses stay within the budget."""
        T, h, w = layer.masks.shape[2:]
        rows = T * sum(len(queries) for queries, _ in pairs)
        drawn = 2 * int(self.num_points * self.oversample)
        return max(1, BUDGET // max(1, rows * max(drawn, h * w)))

    def _losses(
        self,
        layers: list[Prediction],
        targets: list[Targets],
        matched: list[Pairs],
        num_segments: float | Tensor,
    ) -> Tensor:
        """(L, 3): classes, masks, dice."""
        sample, query, segment, place = upload(_indices(matched, targets), layers[0].logits.device)
        labels = torch.cat([t.labels for t in targets])[place]  # (L, M)
        ce = self._class_loss(layers, sample, query, labels)
        chosen = [x.masks[s, q] for x, s, q in zip(layers, sample, query, strict=True)]
        masks = torch.stack(chosen).flatten(1, 2).float()  # (L, M*T, h, w)
        with torch.no_grad():
            points = self._points(masks)  # (L, M*T, P, 2)
            counts = [len(queries) for queries, _ in matched[0]]
            goal = _goals(targets, segment.split(counts, dim=1), points)  # (L, M*T, P)
        logits = _values(masks, points)
        bce = F.binary_cross_entropy_with_logits(logits, goal, reduction="none").mean(2)
        probs = logits.sigmoid()
        dice = 1 - (2 * (probs * goal).sum(2) + 1) / (probs.sum(2) + goal.sum(2) + 1)
        # upstream counts segments, not segments x views; kept so that losses compare
        mask, dice = (torch.stack((bce, dice)).sum(2) / num_segments).unbind()
        weighted = self.weights.label * ce, self.weights.mask * mask, self.weights.dice * dice
        return torch.stack(weighted, dim=1)

    def _class_loss(
        self, layers: list[Prediction], sample: Tensor, query: Tensor, labels: Tensor
    ) -> Tensor:
        """Cross-entropy of every layer (L,), averaged by the classes' weights."""
        logits = torch.stack([x.logits for x in layers]).float()  # (L, B, Q, K+1)
        L, _, Q, classes = logits.shape
        weight = logits.new_ones(classes)
        weight[-1].fill_(self.no_object)  # assigned, the host would wait
        goal = labels.new_full((L, logits.shape[1] * Q), classes - 1)
        goal.scatter_(1, sample * Q + query, labels)
        each = F.cross_entropy(logits.flatten(0, 2), goal.flatten(), weight, reduction="none")
        return each.view(L, -1).sum(1) / weight[goal].sum(1)

    def _points(self, masks: Tensor) -> Tensor:
        """The most uncertain points of a random draw, then fresh ones: (L, M*T, P, 2)."""
        L, rows = masks.shape[:2]
        num_hard = int(self.num_points * self.importance)
        draw = self.draw(L, rows, int(self.num_points * self.oversample), 2, device=masks.device)
        doubt = -_values(masks, draw).abs()
        hard = doubt.topk(num_hard, sorted=False).indices[..., None].expand(-1, -1, -1, 2)
        fresh = self.draw(L, rows, self.num_points - num_hard, 2, device=masks.device)
        return torch.cat((draw.gather(2, hard), fresh), dim=2)


def _split(values: list[Item], size: int) -> list[list[Item]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _indices(matched: list[Pairs], targets: list[Targets]) -> Tensor:
    """(4, L, M): of each pair its sample, query, segment, and place among all labels."""
    firsts = list(accumulate((len(t.labels) for t in targets[:-1]), initial=0))
    rows = [
        torch.stack((torch.full_like(queries, b), queries, segments, segments + first))
        for pairs in matched
        for b, (first, (queries, segments)) in enumerate(zip(firsts, pairs, strict=True))
    ]
    return torch.cat(rows, dim=1).unflatten(1, (len(matched), -1))


def _values(masks: Tensor, points: Tensor) -> Tensor:
    """(L, M*T, h, w) at points of each mask, (L, M*T, P, 2): (L, M*T, P)."""
    found = sample_points(masks.flatten(0, 1)[:, None], points.flatten(0, 1))
    return found.view(points.shape[:-1])


def _goals(targets: list[Targets], segments: Sequence[Tensor], points: Tensor) -> Tensor:
    """Values of the matched segments (L, m) of each sample at points: (L, M*T, P)."""
    goals, start = [], 0
    for target, rows in zip(targets, segments, strict=True):
        L, T = len(points), target.masks.shape[1]
        end = start + rows.shape[1] * T
        here = points[:, start:end].reshape(-1, T, *points.shape[2:])  # (L*m, T, P, 2)
        found = sample_rows(target.masks, rows.flatten(), here)
        goals.append(found.view(L, end - start, points.shape[2]))
        start = end
    return torch.cat(goals, dim=1)
