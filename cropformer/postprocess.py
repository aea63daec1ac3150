"""Entities at the original size: views merged, overlap removed.

Legend of one-letter names: B samples, T views, Q queries, H W the image's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cropformer.merge import Entities, make_views, paint
from mask2former.distinct import Duplicates, distinct
from segcore import masks as mask_io
from segcore.pinned import download, upload
from segcore.structures import Batch, Instances, Outputs, Panoptic, PanopticSegment, Result


@dataclass(frozen=True, slots=True)
class EntityPostProcess:
    """Class-agnostic, without overlap: every pixel belongs to one entity at most.

    Works for one view (Mask2Former for entities) as for many. Memory is that of a few maps of the
    image's size, whatever the number of queries.

    Args:
        max_entities: best-scored queries that may paint; 0: all.
        duplicates: which may not paint; None: all may.
    """

    max_entities: int = 0
    duplicates: Duplicates | None = None

    @torch.inference_mode()
    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]:
        """One result a sample: entities by descending class score, and a map of them."""
        answer = outputs.layers[-1]
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        results = []
        for i, record in enumerate(batch.records):
            probs = answer.logits[i].float().softmax(-1)[:, 0]  # (Q,)
            order = probs.argsort(descending=True, stable=True)
            if self.duplicates:
                (here,) = download(order)
                kept = distinct(answer.masks[i], here, overlap=self.duplicates.overlap)
                order = upload(here[kept], probs.device)
            order = order[: self.max_entities] if self.max_entities else order
            masks = answer.masks[i][order].float()  # (Q, T, h, w)
            sizes = [(int(h), int(w)) for h, w in batch.sizes[i]]
            cells = (masks.shape[-2], masks.shape[-1])
            views = make_views(cells, canvas, sizes, batch.boxes[i].tolist(), masks)
            entities = paint(masks, probs[order], views, record.size)
            results.append(_result(entities, probs[order]))
        return results


def _result(entities: Entities, probs: Tensor) -> Result:
    """`probs` in painting order; published scores are class probability times mask quality."""
    owner, areas, scores = download(entities.owner, entities.areas, probs * entities.quality)
    areas = areas.tolist()
    rles = mask_io.encode_ids(owner.numpy(), range(len(areas)))  # empty where nothing is owned
    segments = [
        PanopticSegment(i + 1, 0, True, score, area)
        for i, (score, area) in enumerate(zip(scores.tolist(), areas, strict=True))
        if area
    ]
    boxes = torch.from_numpy(mask_io.boxes(rles)).float()
    labels = torch.zeros(len(areas), dtype=torch.int64)
    panoptic = Panoptic((owner + 1).to(torch.int32), segments)
    return Result(panoptic=panoptic, instances=Instances(scores, labels, rles, boxes))
