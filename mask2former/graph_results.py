"""The three tasks' results in an exported graph: tensors of fixed shapes at the input's size.

What `postprocess` chooses one by one on the host is here a tensor over all queries, so masks of
Q x H x W are held: a graph cannot do otherwise.

Legend of one-letter names: Q queries, T views, K classes, N instances, H W input pixels, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.structures import Size

OUTSIDE = -1e4  # mask logit of padding


@dataclass(frozen=True, slots=True)
class QueryResults:
    """A `contracts.GraphResults`; arguments as `postprocess.PostProcess` has them."""

    is_thing: tuple[bool, ...]
    semantic: bool
    panoptic: bool
    instances: bool
    object_threshold: float = 0.8
    overlap_threshold: float = 0.8
    max_instances: int = 100

    def __call__(
        self, logits: Tensor, masks: Tensor, sizes: Tensor, canvas: Size
    ) -> dict[str, Tensor]:
        """Results of one image, by name.

        Returns: semantic (H, W) int64 class; panoptic (H, W) int32 id of a segment, 0: none, and
        segment_ids, segment_labels, segment_scores (Q,) of the queries, id 0: no segment;
        scores, labels (N,) and instance_masks (N, H, W) bool, best first, score 0: none. What the
        task does not make is not there.
        """
        probs = logits.softmax(-1)  # (Q, K+1)
        full = input_masks(masks[:, 0], sizes[0], canvas)  # (Q, H, W) logits
        named: dict[str, Tensor] = {}
        if self.semantic:
            scores = torch.einsum("qk,qhw->khw", probs[:, :-1], full.sigmoid())
            named["semantic"] = scores.argmax(0)
        if self.panoptic:
            named |= self._panoptic(probs, full)
        if self.instances:
            named |= self._instances(probs[:, :-1], full)
        return named

    def _instances(self, probs: Tensor, full: Tensor) -> dict[str, Tensor]:
        """(Q, K), (Q, H, W) -> scores, labels, masks, best first."""
        K = probs.shape[1]
        count = min(self.max_instances, probs.numel())
        scores, index = probs.flatten().topk(count)
        query, labels = index // K, index % K
        inside = full > 0
        areas = inside.sum((1, 2))
        quality = (full.sigmoid() * inside).sum((1, 2)) / (areas + 1e-6)
        scores = scores * quality[query]
        if self.panoptic:  # published: things only where the model is panoptic
            scores = scores * self._things(scores)[labels]
        scores, order = scores.topk(count)
        return {
            "scores": scores,
            "labels": labels[order],
            "instance_masks": inside[query[order]],
        }

    def _panoptic(self, probs: Tensor, full: Tensor) -> dict[str, Tensor]:
        """(Q, K+1), (Q, H, W) -> the map and its segments."""
        Q, K = probs.shape[0], probs.shape[1] - 1
        scores, labels = probs.max(-1)
        kept = (labels != K) & (scores > self.object_threshold)  # (Q,)
        sure = full >= 0  # (Q, H, W)
        weights = torch.where(kept, scores, -1.0)
        owner = (full.sigmoid() * weights[:, None, None]).argmax(0)  # (H, W)
        number = torch.arange(Q, device=owner.device)
        owned = (owner == number[:, None, None]) & (full[:1] > OUTSIDE)  # (Q, H, W)
        whole, mine, both = (x.sum((1, 2)) for x in (sure, owned, owned & sure))
        enough = mine >= self.overlap_threshold * whole
        kept = kept & (whole > 0) & (mine > 0) & (both > 0) & enough
        # stuff of a class shares the first one's id
        stuff = ~(self._things(scores) > 0)[labels.clamp(max=K - 1)]
        alike = (labels[:, None] == labels) & stuff[:, None] & kept & kept[:, None]
        first = torch.where(alike, number, Q).amin(1)  # (Q,) Q where nothing is alike
        first = torch.minimum(first, number)
        leads = (first == number) & kept
        ids = leads.float().cumsum(0)[first] * kept  # TensorRT sums up floats alone
        here = torch.gather(sure, 0, owner[None])[0]  # (H, W)
        return {
            "panoptic": (ids[owner] * here).to(torch.int32),
            "segment_ids": ids.to(torch.int32),
            "segment_labels": labels,
            "segment_scores": scores,
        }

    def _things(self, like: Tensor) -> Tensor:
        """(K,) 1 for things, 0 for stuff."""
        return torch.tensor(self.is_thing, dtype=like.dtype, device=like.device)


def input_masks(masks: Tensor, size: Tensor, canvas: Size) -> Tensor:
    """(Q, h, w) logits at the input's size, (Q, H, W); far below zero in the padding."""
    full = F.interpolate(masks[None], canvas, mode="bilinear")[0]
    rows, columns = (torch.arange(side, device=masks.device) for side in canvas)
    inside = (rows < size[0])[:, None] & (columns < size[1])
    return torch.where(inside, full, OUTSIDE)
