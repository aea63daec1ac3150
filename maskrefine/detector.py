"""A two-stage detector with masks (Mask R-CNN, He et al., 2017), the host of mask refiners.

Legend of one-letter names: B samples, N objects, R regions, P proposals, K classes, H W input
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maskrefine.box_head import BoxHead
from maskrefine.matching import choose, match
from maskrefine.proposals import AnchorScores, Proposed, RegionProposals
from maskrefine.regions import box_iou
from maskrefine.targets import true_boxes
from segcore.contracts import MaskHead
from segcore.nn.layers import Normalise
from segcore.structures import Outputs, Proposals, Regions, Targets


class TwoStage(nn.Module):
    """From pixels to boxes with classes and masks.

    Args:
        backbone: images -> res2..res5.
        neck: res2..res5 -> p2..p6.
        mask_head: a MaskHead: p2..p5 and regions -> masks; the plain one or a refiner.
        pixel_mean: of the three channels in the order that the weights want.
        bgr: that order is blue, green, red.
        regions_per_image: proposals that are drawn for training.
        foreground_share: of objects among them, at most.
        foreground_overlap: intersection over union from which a proposal is an object.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: RegionProposals,
        box_head: BoxHead,
        mask_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        bgr: bool = False,
        regions_per_image: int = 512,
        foreground_share: float = 0.25,
        foreground_overlap: float = 0.5,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean=pixel_mean, std=pixel_std)
        self.backbone, self.neck, self.rpn = backbone, neck, rpn
        self.box_head, self.mask_head = box_head, mask_head
        self.bgr = bgr
        self.regions_per_image = regions_per_image
        self.foreground_share, self.foreground_overlap = foreground_share, foreground_overlap

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, 1, 3, H, W) uint8 RGB and (B, 1, 2) on the CPU -> Outputs.

        Args:
            targets: in training: proposals are drawn by them, and `proposals` is filled for the
                losses; without them `regions` are detections.
            aux: not looked at: there is one answer.
        """
        pyramid = self.pyramid(images, sizes)
        inside = sizes[:, 0].to(images.device, torch.float32, non_blocking=True)  # (B, 2)
        said = self.rpn(pyramid)
        proposed = self.rpn.choose(said, inside, training=targets is not None)
        features = [x.contiguous() for x in pyramid[:4]]  # as pooling reads them: copied once
        if targets is None:
            return self._detect(features, proposed, inside)
        return self._train(features, said, proposed, inside, targets)

    def pyramid(self, images: Tensor, sizes: Tensor) -> list[Tensor]:
        """p2..p6 of a batch."""
        channels = images.flip(2) if self.bgr else images
        return self.neck(self.backbone(self.normalise(channels, sizes)))

    def _detect(self, features: list[Tensor], proposed: list[Proposed], inside: Tensor) -> Outputs:
        boxes = [p.boxes for p in proposed]
        unknown = [torch.zeros_like(b[:, 0], dtype=torch.int64) for b in boxes]
        regions = Regions(_samples(boxes), torch.cat(boxes), torch.cat(unknown))
        logits, deltas = self.box_head(features, regions)
        detections = self.box_head.detect(logits, deltas, regions, inside)
        masked: MaskHead = self.mask_head
        return Outputs([], features=features, regions=masked(features, detections))

    def _train(
        self,
        features: list[Tensor],
        said: AnchorScores,
        proposed: list[Proposed],
        inside: Tensor,
        targets: list[Targets],
    ) -> Outputs:
        truth = [true_boxes(t) for t in targets]
        regions = self.draw([p.boxes for p in proposed], truth, [t.labels for t in targets])
        logits, deltas = self.box_head(features, regions)
        foreground = (regions.labels < self.box_head.num_classes).nonzero()[:, 0]
        masked: MaskHead = self.mask_head
        anchors = torch.cat(said.anchors)
        proposals = Proposals(
            truth,
            anchors,
            self._usable(anchors, inside),
            torch.cat(said.logits, 1),
            torch.cat(said.deltas, 1),
            regions,
            logits,
            deltas,
        )
        masks = masked(features, _rows(regions, foreground))
        return Outputs([], features=features, regions=masks, proposals=proposals)

    def _usable(self, anchors: Tensor, inside: Tensor) -> Tensor:
        """(B, A) bool: anchors whose cell starts inside the image's own padding."""
        divisor = self.rpn.numerics.padding_divisor
        if divisor is None:
            return torch.ones(len(inside), len(anchors), dtype=torch.bool, device=anchors.device)
        padded = (inside / divisor).ceil() * divisor  # (B, 2)
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2  # x, y
        return (centres < padded[:, None].flip(-1)).all(-1)

    @torch.no_grad()
    def draw(
        self, boxes: Sequence[Tensor], truth: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> Regions:
        """Proposals to train: objects first within a sample, in random order.

        Args:
            boxes: a sample (P, 4).
            truth: a sample (N, 4); they join the proposals.
            labels: a sample (N,).
        """
        drawn, kinds, matches = [], [], []
        for found, true, label in zip(boxes, truth, labels, strict=True):
            candidates = torch.cat((found, true))
            index, kind = self._match(found, true)
            picked, valid = choose(kind[None], self.regions_per_image, self.foreground_share)
            rows = picked[valid]
            background = torch.full_like(rows, self.box_head.num_classes)
            known = label[index[rows]] if len(label) else background
            drawn.append(candidates[rows])
            kinds.append(torch.where(kind[rows] == 1, known, background))
            matches.append(index[rows])
        return Regions(
            _samples(drawn), torch.cat(drawn), torch.cat(kinds), matched=torch.cat(matches)
        )

    def _match(self, boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """(P+N,) object and (P+N,) label of proposals and true boxes."""
        numerics = self.rpn.numerics
        candidates = torch.cat((boxes, truth)) if numerics.truth_matched else boxes
        index, label = match(
            box_iou(truth, candidates),
            low=self.foreground_overlap,
            high=self.foreground_overlap,
            best=numerics.best_regions,
            rematched=numerics.best_rematched,
        )
        if numerics.truth_matched:
            return index, label
        itself = torch.arange(len(truth), device=index.device)
        return torch.cat((index, itself)), torch.cat((label, torch.ones_like(itself)))


def _samples(parts: Sequence[Tensor]) -> Tensor:
    """(R,) int64 which part each row of all parts together is from."""
    return torch.cat([torch.full_like(p[:, 0], i, dtype=torch.int64) for i, p in enumerate(parts)])


def _rows(regions: Regions, rows: Tensor) -> Regions:
    assert regions.matched is not None
    return Regions(
        regions.sample[rows], regions.boxes[rows], regions.labels[rows],
        matched=regions.matched[rows],
    )  # fmt: skip
