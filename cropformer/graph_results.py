"""Entities of the whole image in an exported graph; with crops, where they lie is not known there.

Legend of one-letter names: Q queries, T views, H W input pixels, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mask2former.graph_results import input_masks
from segcore.structures import Size


@dataclass(frozen=True, slots=True)
class EntityResults:
    """A `contracts.GraphResults`; `max_entities` as `postprocess.EntityPostProcess` has it."""

    max_entities: int = 0

    def __call__(
        self, logits: Tensor, masks: Tensor, sizes: Tensor, canvas: Size
    ) -> dict[str, Tensor]:
        """Results of one image, by name.

        Returns: entities (H, W) int32, 1 for the best class score, 0: nobody; entity_scores (N,)
        of the entities from 1 on, 0 where nothing is owned.
        """
        count = self.max_entities or logits.shape[0]
        probs, order = logits.softmax(-1)[:, 0].topk(min(count, logits.shape[0]))
        inside = input_masks(masks[order, 0], sizes[0], canvas).sigmoid()  # (N, H, W)
        number = torch.arange(1, inside.shape[0] + 1, device=probs.device)
        rank = torch.where(inside > 0.5, number[:, None, None], inside.shape[0] + 1)
        owner = rank.amin(0)  # (H, W) the best that is there
        mine = owner == number[:, None, None]
        areas = mine.sum((1, 2))
        # the published quality is the sigmoid of what is a probability already; kept
        quality = (inside.sigmoid() * mine).sum((1, 2)) / (areas + 1e-6)
        owner = torch.where(owner > inside.shape[0], 0, owner)
        return {"entities": owner.to(torch.int32), "entity_scores": probs * quality}
