"""From detections to results at the original size.

Legend of one-letter names: B samples, R detections, s cells on a side of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskrefine.boxes import clip, has_area
from maskrefine.paste import paste
from segcore import masks as mask_io
from segcore.structures import Batch, Instances, Outputs, Regions, Result, Size


@dataclass(frozen=True, slots=True)
class DetectionResults:
    """Masks, boxes and scores of each sample at its record's size.

    Args:
        empty_kept: detections that the original image cuts to nothing stay, without pixels.
        tight: boxes are those of the finished masks, not the regions that these were made in.
    """

    empty_kept: bool = False
    tight: bool = False

    @torch.inference_mode()
    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]:
        """One result a sample, with the detector's own boxes or those of its masks."""
        regions = outputs.regions
        assert regions is not None
        sample = regions.sample.cpu()
        return [
            Result(instances=self._one(regions, sample == i, (h, w), record.size))
            for i, ((h, w), record) in enumerate(
                zip(batch.sizes[:, 0].tolist(), batch.records, strict=True)
            )
        ]

    def _one(self, regions: Regions, mine: Tensor, inside: Size, size: Size) -> Instances:
        assert regions.scores is not None and regions.probabilities is not None
        rows = mine.nonzero()[:, 0].to(regions.boxes.device)
        boxes = at_size(regions.boxes[rows], inside, size)
        if not self.empty_kept:
            kept = has_area(boxes)
            rows, boxes = rows[kept], boxes[kept]
        masks = paste(regions.probabilities[rows], boxes, size)
        if self.tight:
            boxes = torch.as_tensor(mask_io.boxes(masks), dtype=torch.float32)
        scores, labels = regions.scores[rows].float(), regions.labels[rows]
        return Instances(scores.cpu(), labels.cpu(), masks, boxes.cpu())


def at_size(boxes: Tensor, inside: Size, size: Size) -> Tensor:
    """Boxes (R, 4) of an input of size `inside` in pixels of the image that it shows."""
    down, across = (goal / given for goal, given in zip(size, inside, strict=True))
    scale = boxes.new_tensor([across, down, across, down])
    return clip(boxes * scale, boxes.new_tensor(size))
