"""A mask head behind a frozen segmentation model: its features and its masks, made finer.

Nobody has published this; a refiner's contract (features and regions in, regions out) allows it.

Legend of one-letter names: B samples, Q queries, K classes, N candidates of a sample, R regions,
M objects of a sample, C channels, H W input pixels, h w cells of the model's masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.boxes import clip, has_area
from maskrefine.regions import pool
from maskrefine.targets import boxes_of_masks
from segcore.contracts import MaskHead
from segcore.structures import Outputs, Prediction, Regions, Targets

STRIDE = 4  # of the model's masks
COARSE = (14, 28)  # cells on a side in which a head is given them


class HostedRefiner(nn.Module):
    """See the module's docstring.

    Args:
        host: gives `layers` and `features` at strides 4 to 32; it does not learn.
        neck: the host's features -> p2..p6.
        mask_head: a MaskHead that takes the first stages' masks from the regions.
        is_thing: of every class; only these are refined.
        limit: candidates of an image at test time.
        train_limit: objects of an image in training, at most.
        least_overlap: intersection over union from which a candidate shows an object.
        margin: that a mask's box gets on every side, as a share of it: what is missing may lie
            there.
    """

    is_thing: Tensor

    def __init__(
        self,
        *,
        host: nn.Module,
        neck: nn.Module,
        mask_head: nn.Module,
        is_thing: Sequence[bool],
        limit: int = 100,
        train_limit: int = 32,
        least_overlap: float = 0.5,
        margin: float = 0.1,
    ) -> None:
        super().__init__()
        self.host, self.neck, self.mask_head = host.requires_grad_(False).eval(), neck, mask_head
        self.limit, self.train_limit = limit, train_limit
        self.least_overlap, self.margin = least_overlap, margin
        self.register_buffer("is_thing", torch.tensor(is_thing), persistent=False)

    def train(self, mode: bool = True) -> HostedRefiner:
        """The host stays in eval mode."""
        super().train(mode)
        self.host.eval()
        return self

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, 1, 3, H, W) uint8 RGB and (B, 1, 2) on the CPU -> Outputs with `regions`.

        Args:
            targets: in training: candidates are matched with them.
            aux: not looked at.
        """
        with torch.no_grad():
            said: Outputs = self.host(images, sizes, aux=False)
            inside = sizes[:, 0].to(images.device, torch.float32)  # (B, 2)
            regions, maps = self.candidates(said.layers[-1], inside)
            if targets is not None:
                regions, maps = self.matched(regions, maps, self.without_stuff(targets))
            regions.logits = [self._coarse(maps, regions.boxes, size) for size in COARSE]
        features = [x.contiguous() for x in self.neck(said.features)[:4]]
        head: MaskHead = self.mask_head
        return Outputs(said.layers, features=features, regions=head(features, regions))

    def without_stuff(self, targets: Sequence[Targets]) -> list[Targets]:
        """The same targets, those of stuff with nothing in their masks: a head learns things."""
        things = [self.is_thing[target.labels][:, None, None, None] for target in targets]
        return [replace(t, masks=t.masks & thing) for t, thing in zip(targets, things, strict=True)]

    def candidates(self, answer: Prediction, inside: Tensor) -> tuple[Regions, Tensor]:
        """The best pairs of query and class of each image, and their mask logits (R, h, w).

        Args:
            inside: (B, 2) height and width without padding.
        """
        likely = answer.logits.softmax(-1)[..., :-1] * self.is_thing  # (B, Q, K)
        B, _, K = likely.shape
        score, index = likely.flatten(1).topk(min(self.limit, likely[0].numel()))  # (B, N)
        sample = torch.arange(B, device=score.device)[:, None].expand_as(index)
        maps = answer.masks[sample, index // K, 0].float()  # (B, N, h, w)
        shown = maps > 0
        quality = (maps.sigmoid() * shown).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1)
        order = (score * quality).argsort(1, descending=True)
        sample, label, maps = sample.flatten(), (index % K).gather(1, order), _rows(maps, order)
        boxes = self._boxes(maps > 0, inside[sample])
        regions = Regions(
            sample, boxes, label.flatten(), scores=(score * quality).gather(1, order).flatten()
        )
        return _kept(regions, maps, has_area(boxes))

    def _boxes(self, masks: Tensor, inside: Tensor) -> Tensor:
        """(R, 4) in input pixels, with a margin, inside the images (R, 2)."""
        boxes = boxes_of_masks(masks) * STRIDE
        side = (boxes[:, 2:] - boxes[:, :2]) * self.margin
        return clip(boxes + torch.cat((-side, side), 1), inside)

    def matched(
        self, regions: Regions, maps: Tensor, targets: Sequence[Targets]
    ) -> tuple[Regions, Tensor]:
        """Those that show an object, as this object, in training."""
        best, index = torch.zeros_like(regions.boxes[:, 0]), torch.zeros_like(regions.labels)
        labels = regions.labels.clone()
        for i, target in enumerate(targets):
            rows = (regions.sample == i).nonzero()[:, 0]
            if len(target.labels) and len(rows):
                overlap = _overlaps(maps[rows] > 0, target.masks[:, 0])
                best[rows], index[rows] = overlap.max(1)
                labels[rows] = target.labels[index[rows]]
        kept = best >= self.least_overlap
        before = (regions.sample[:, None] == regions.sample) & kept  # (R, R)
        kept &= before.tril(-1).sum(1) < self.train_limit
        return _kept(replace(regions, labels=labels, matched=index, scores=None), maps, kept)

    def _coarse(self, maps: Tensor, boxes: Tensor, size: int) -> Tensor:
        """The host's logits in the boxes: (R, 1, s, s)."""
        if not len(boxes):
            return maps.new_zeros(0, 1, size, size)
        own = torch.arange(len(boxes), device=boxes.device)
        return pool([maps[:, None]], own, boxes, size, strides=(STRIDE,))


def _rows(maps: Tensor, order: Tensor) -> Tensor:
    """(B, N, h, w) in another order within each sample -> (B N, h, w)."""
    first = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[first, order].flatten(0, 1)


def _kept(regions: Regions, maps: Tensor, kept: Tensor) -> tuple[Regions, Tensor]:
    matched, scores = regions.matched, regions.scores
    some = Regions(
        regions.sample[kept],
        regions.boxes[kept],
        regions.labels[kept],
        scores=None if scores is None else scores[kept],
        matched=None if matched is None else matched[kept],
    )
    return some, maps[kept]


def _overlaps(masks: Tensor, truth: Tensor) -> Tensor:
    """(N, h, w) and (M, H, W) bool -> (N, M) intersection over union, at the first one's size."""
    small = F.interpolate(truth[:, None].float(), masks.shape[-2:], mode="area")[:, 0] >= 0.5
    a, b = masks.flatten(1).float(), small.flatten(1).float()
    shared = a @ b.T
    return shared / (a.sum(1)[:, None] + b.sum(1) - shared).clamp(min=1)
