"""Results with better masks: what a mask refiner makes of instances, panoptic maps and entities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from segcore import masks as mask_io
from segcore.contracts import MaskRefiner, Task
from segcore.data.images import read_image
from segcore.structures import Batch, Instances, Panoptic, Result


class RefinedInference:
    """Results of a batch whose masks a refiner has been over.

    Args:
        refine: better masks of an image.
        device: where the task's model is.
    """

    def __init__(self, task: Task, refine: MaskRefiner, device: torch.device) -> None:
        self.task, self.refine, self.device = task, refine, device

    def __call__(self, batch: Batch) -> list[Result]:
        """One a sample, at its record's size; the records' files are read again."""
        results = self.task.postprocess(self.task.infer(batch, self.device), batch)
        return [
            refined(result, read_image(record.frames[0].file), self.refine)
            for result, record in zip(results, batch.records, strict=True)
        ]


def refined(result: Result, image: np.ndarray, refine: MaskRefiner) -> Result:
    """A result with better masks of its instances and panoptic segments.

    Args:
        image: (H, W, 3) uint8 RGB at the result's size.
    """
    instances, panoptic = result.instances, result.panoptic
    return replace(
        result,
        instances=instances and _instances(instances, image, refine),
        panoptic=panoptic and _panoptic(panoptic, image, refine),
    )


def _instances(instances: Instances, image: np.ndarray, refine: MaskRefiner) -> Instances:
    """Boxes are tight around the new masks; those of empty masks stay."""
    masks = refine(image, instances.masks)
    boxes = torch.from_numpy(mask_io.boxes(masks)).to(instances.boxes)
    kept = torch.from_numpy(mask_io.area(masks) == 0)[:, None]
    return replace(instances, masks=masks, boxes=torch.where(kept, instances.boxes, boxes))


def _panoptic(panoptic: Panoptic, image: np.ndarray, refine: MaskRefiner) -> Panoptic:
    """Where new masks overlap, the better score counts; what none claims stays as it was."""
    ids = panoptic.map.numpy()
    rles = mask_io.encode_ids(ids, [s.id for s in panoptic.segments])
    painted = ids.copy()  # (H, W)
    pairs = zip(panoptic.segments, refine(image, rles), strict=True)
    for segment, rle in sorted(pairs, key=lambda pair: pair[0].score):  # one mask at a time
        painted[mask_io.decode(rle)] = segment.id
    areas = np.bincount(
        painted.ravel(), minlength=max((s.id for s in panoptic.segments), default=0) + 1
    )
    segments = [replace(s, area=int(areas[s.id])) for s in panoptic.segments if areas[s.id]]
    return Panoptic(torch.from_numpy(painted), segments)
