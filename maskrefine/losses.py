"""Losses of a two-stage detector: anchors, boxes, and what its mask head asks for.

Legend of one-letter names: B images, A anchors, S chosen anchors, N objects, R regions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.boxes import REGION_WEIGHTS, encode
from maskrefine.matching import choose, match
from maskrefine.numerics import Numerics
from maskrefine.regions import box_iou
from segcore.structures import Outputs, Proposals, Targets

MaskLosses = Callable[..., dict[str, Tensor]]  # (Regions, list[Targets]) -> losses by name


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorLosses:
    """All losses of a two-stage detector, weighted.

    Args:
        mask_losses: of the mask head: regions as it returned them, and the targets.
        anchors_per_image: that are drawn for the losses of proposals.
        anchor_share: of foreground among them, at most.
        anchor_overlaps: an anchor is background below the first, an object from the second on.
        anchor_beta: where the smooth L1 loss of an anchor's deltas becomes linear; 0: always.
        box_beta: the same of the box head.
    """

    numerics: Numerics
    mask_losses: MaskLosses
    anchors_per_image: int = 256
    anchor_share: float = 0.5
    anchor_overlaps: tuple[float, float] = (0.3, 0.7)
    anchor_beta: float = 0.0
    box_beta: float = 0.0

    def __call__(
        self, outputs: Outputs, targets: list[Targets], counts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses by detectron2's names.

        Args:
            counts: not looked at; these losses are divided by the boxes of each process.
        """
        assert outputs.proposals is not None and outputs.regions is not None
        return {
            **self.of_anchors(outputs.proposals),
            **self.of_boxes(outputs.proposals),
            **self.mask_losses(outputs.regions, targets),
        }

    def of_anchors(self, said: Proposals) -> dict[str, Tensor]:
        """Is there an object, and where: cross-entropy and smooth L1 of drawn anchors."""
        matches = [self._match(said, i) for i in range(len(said.truth))]
        labels = torch.stack([label for _, label in matches])  # (B, A)
        drawn, valid = choose(labels, self.anchors_per_image, self.anchor_share)  # (B, S)
        labels = labels.gather(1, drawn)
        foreground = valid & (labels == 1)
        entropy = F.binary_cross_entropy_with_logits(
            said.logits.gather(1, drawn), labels.clamp(min=0).float(), reduction="none"
        )
        deltas = said.deltas.gather(1, drawn[..., None].expand(-1, -1, 4))
        goals = []
        for truth, rows, (index, _) in zip(said.truth, drawn, matches, strict=True):
            boxes = said.anchors[rows]
            goals.append(encode(boxes, truth[index[rows]] if len(truth) else boxes))
        distance = F.smooth_l1_loss(
            deltas, torch.stack(goals), reduction="none", beta=self.anchor_beta
        ).sum(-1)  # (B, S)
        count = self._anchor_count(valid, foreground)
        return {
            "loss_rpn_cls": torch.where(valid, entropy, 0).sum() / count,
            "loss_rpn_loc": torch.where(foreground, distance, 0).sum() / count,
        }

    def _match(self, said: Proposals, i: int) -> tuple[Tensor, Tensor]:
        """(A,) object and (A,) label of each anchor of one image."""
        usable = said.usable[i]
        index, label = match(
            box_iou(said.truth[i], said.anchors).masked_fill(~usable, -1),
            low=self.anchor_overlaps[0],
            high=self.anchor_overlaps[1],
            best=self.numerics.best_anchors,
            rematched=self.numerics.best_rematched,
        )
        return index, label.masked_fill(~usable, -1)

    def _anchor_count(self, valid: Tensor, foreground: Tensor) -> Tensor | int:
        if self.numerics.rpn_per_sample:
            return self.anchors_per_image * len(valid)
        # published: an image without one of the two kinds counts as if it had one
        positive = foreground.sum(1)
        return positive.clamp(min=1).sum() + (valid.sum(1) - positive).clamp(min=1).sum()

    def of_boxes(self, said: Proposals) -> dict[str, Tensor]:
        """What the regions are, and where: cross-entropy and smooth L1 of the class's deltas."""
        regions, weight = said.regions, self.numerics.box_weight
        count = max(1, len(regions.labels))
        entropy = F.cross_entropy(said.class_logits, regions.labels, reduction="sum")
        K = said.box_deltas.shape[1]
        rows = (regions.labels < K).nonzero()[:, 0]  # how many is known on the host already
        assert regions.matched is not None
        starts = torch.tensor([0, *(len(t) for t in said.truth)]).cumsum(0).to(rows.device)
        objects = starts[regions.sample[rows]] + regions.matched[rows]
        goals = encode(regions.boxes[rows], torch.cat(said.truth)[objects], REGION_WEIGHTS)
        deltas = said.box_deltas[rows, regions.labels[rows]]
        distance = F.smooth_l1_loss(deltas, goals, reduction="sum", beta=self.box_beta)
        return {
            "loss_cls": weight * entropy / count,
            "loss_box_reg": weight * distance / count,
        }
