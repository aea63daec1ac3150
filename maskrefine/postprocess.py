"""From detections to results at the original size.

Legend of one-letter names: B samples, R detections, s cells on a side of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskrefine.boxes import clip, has_area
from maskrefine.paste import paste
from segcore import masks as mask_io
from segcore.structures import (
    Batch,
    Instances,
    Outputs,
    Panoptic,
    PanopticSegment,
    Regions,
    Result,
    Size,
)


@dataclass(frozen=True, slots=True)
class DetectionResults:
    """Masks, boxes and scores of each sample at its record's size.

    Args:
        empty_kept: detections that the original image cuts to nothing stay, without pixels.
        tight: boxes are those of the finished masks, not the regions that these were made in.
        apart: masks do not overlap, as entities do not: a pixel is of the best-scored one.
    """

    empty_kept: bool = False
    tight: bool = False
    apart: bool = False

    @torch.inference_mode()
    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]:
        """One result a sample, with the detector's own boxes or those of its masks."""
        regions = outputs.regions
        assert regions is not None
        sample = regions.sample.cpu()
        return [
            self._result(regions, sample == i, (h, w), record.size)
            for i, ((h, w), record) in enumerate(
                zip(batch.sizes[:, 0].tolist(), batch.records, strict=True)
            )
        ]

    def _result(self, regions: Regions, mine: Tensor, inside: Size, size: Size) -> Result:
        found = self._one(regions, mine, inside, size)
        return entities_of(found, size) if self.apart else Result(instances=found)

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


def entities_of(found: Instances, size: Size) -> Result:
    """Detections, best first, as entities: masks without overlap, and a map of them."""
    owner = np.full(size, -1, np.int32)
    for i in reversed(range(len(found.masks))):  # one mask at a time: all would be R x H x W
        owner[mask_io.decode(found.masks[i])] = i
    rles = mask_io.encode_ids(owner, range(len(found.masks)))
    scores, areas = found.scores.tolist(), mask_io.area(rles).tolist() if rles else []
    segments = [
        PanopticSegment(i + 1, 0, True, score, area)
        for i, (score, area) in enumerate(zip(scores, areas, strict=True))
        if area
    ]
    boxes = torch.from_numpy(mask_io.boxes(rles)).float() if rles else found.boxes
    instances = Instances(found.scores, torch.zeros_like(found.labels), rles, boxes)
    return Result(panoptic=Panoptic(torch.from_numpy(owner + 1), segments), instances=instances)


def at_size(boxes: Tensor, inside: Size, size: Size) -> Tensor:
    """Boxes (R, 4) of an input of size `inside` in pixels of the image that it shows."""
    down, across = (goal / given for goal, given in zip(size, inside, strict=True))
    scale = boxes.new_tensor([across, down, across, down])
    return clip(boxes * scale, boxes.new_tensor(size))
