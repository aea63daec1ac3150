"""Losses of every decoder layer: classes, and masks at uncertain points (section 3.2, 3.3).

Legend of one-letter names: B samples, T views, Q queries, N segments, M matched pairs, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.matcher import Matcher, Pairs, Weights
from segcore.nn.points import sample_bool, sample_points
from segcore.structures import Prediction, Targets


class Criterion(nn.Module):
    """Set prediction loss with deep supervision.

    Args:
        no_object: weight of the no-object class in the cross-entropy.
        num_points: per mask, of which `importance` are the most uncertain of a draw of
            `oversample` times as many (PointRend).
    """

    class_weight: Tensor

    def __init__(
        self,
        *,
        num_classes: int,
        matcher: Matcher,
        weights: Weights,
        no_object: float = 0.1,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__()
        self.matcher, self.weights = matcher, weights
        self.num_points, self.oversample, self.importance = num_points, oversample, importance
        class_weight = torch.ones(num_classes + 1)
        class_weight[-1] = no_object
        self.register_buffer("class_weight", class_weight, persistent=False)

    def forward(
        self, layers: list[Prediction], targets: list[Targets], num_segments: float | Tensor
    ) -> dict[str, Tensor]:
        """Weighted losses: `loss_mask` is the last layer's, `loss_mask_0` the first's.

        Args:
            num_segments: what the mask losses are divided by: segments a batch, averaged over
                ranks and accumulated batches. The trainer counts; this class knows of neither.
        """
        numbered = [("", layers[-1])] + [(f"_{i}", layer) for i, layer in enumerate(layers[:-1])]
        # on the CPU layer by layer, which draws random points in the published order; on a GPU
        # all layers are matched at once, for a single copy to the host
        at_once = len(numbered) if layers[-1].logits.is_cuda else 1
        losses = {}
        for start in range(0, len(numbered), at_once):
            group = numbered[start : start + at_once]
            matched = self.matcher([layer for _, layer in group], targets)
            for (suffix, layer), pairs in zip(group, matched, strict=True):
                with torch.autocast(layer.logits.device.type, enabled=False):
                    found = self._layer(layer, targets, pairs, num_segments)
                losses |= {name + suffix: value for name, value in found.items()}
        return losses

    def _layer(
        self, pred: Prediction, targets: list[Targets], pairs: Pairs, num_segments: float | Tensor
    ) -> dict[str, Tensor]:
        device = pred.logits.device
        sample = torch.cat([torch.full_like(q, b) for b, (q, _) in enumerate(pairs)]).to(device)
        query = torch.cat([q for q, _ in pairs]).to(device)
        chosen = [(t, n.to(device)) for t, (_, n) in zip(targets, pairs, strict=True)]
        labels = torch.full(
            pred.logits.shape[:2], pred.logits.shape[-1] - 1, dtype=torch.long, device=device
        )
        labels[sample, query] = torch.cat([t.labels[n] for t, n in chosen])
        class_weight = self.class_weight.to(device)
        ce = F.cross_entropy(pred.logits.float().transpose(1, 2), labels, class_weight)
        masks = pred.masks[sample, query].flatten(0, 1).float()[:, None]  # (M*T, 1, h, w)
        with torch.no_grad():
            points = self._points(masks)  # (M*T, P, 2)
            goal = self._goals(chosen, points)  # (M*T, P)
        logits = sample_points(masks, points)[:, 0]  # (M*T, P)
        bce = F.binary_cross_entropy_with_logits(logits, goal, reduction="none").mean(1)
        probs = logits.sigmoid()
        dice = 1 - (2 * (probs * goal).sum(1) + 1) / (probs.sum(1) + goal.sum(1) + 1)
        # upstream counts segments, not segments x views; kept so that losses compare
        return {
            "loss_ce": self.weights.label * ce,
            "loss_mask": self.weights.mask * bce.sum() / num_segments,
            "loss_dice": self.weights.dice * dice.sum() / num_segments,
        }

    def _points(self, masks: Tensor) -> Tensor:
        """The most uncertain points of a random draw, then fresh ones: (M*T, P, 2)."""
        count, device = len(masks), masks.device
        draw = torch.rand(count, int(self.num_points * self.oversample), 2, device=device)
        num_hard = int(self.num_points * self.importance)
        doubt = -sample_points(masks, draw)[:, 0].abs()
        chosen = doubt.topk(num_hard, sorted=False).indices[..., None].expand(-1, -1, 2)
        fresh = torch.rand(count, self.num_points - num_hard, 2, device=device)
        return torch.cat((draw.gather(1, chosen), fresh), dim=1)

    def _goals(self, chosen: list[tuple[Targets, Tensor]], points: Tensor) -> Tensor:
        """Values of the matched segments, sample by sample: (M*T, P)."""
        goals, start = [], 0
        for target, segments in chosen:
            masks = target.masks[segments].flatten(0, 1)[:, None]  # (m*T, 1, H, W) bool
            goals.append(sample_bool(masks, points[start : start + len(masks)])[:, 0])
            start += len(masks)
        return torch.cat(goals)
