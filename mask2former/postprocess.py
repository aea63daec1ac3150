"""From logits to semantic, panoptic and instance results at the original size.

Nothing holds Q x H x W: masks are chosen first, then upsampled in bands of rows or a few at a time.

Legend of one-letter names: B samples, Q queries, K classes, N kept masks, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mask2former.upsample import Upsampler
from segcore import masks as mask_io
from segcore.structures import (
    Batch,
    Instances,
    Outputs,
    Panoptic,
    PanopticSegment,
    Result,
    Rle,
)

BUDGET = 1 << 24  # values of one chunk of upsampled logits: 64 MB


@dataclass(frozen=True, slots=True)
class PostProcess:
    """Inference of the three tasks (section 3.4 and appendix of the paper).

    Args:
        is_thing: of every class.
        object_threshold: score that a query needs to enter the panoptic map.
        overlap_threshold: share of its mask that a segment must keep.
        max_instances: of an image, best first.
        late_resize: semantic maps are made at the input size and resized afterwards; published
            semantic-only models are evaluated so.
    """

    is_thing: tuple[bool, ...]
    semantic: bool
    panoptic: bool
    instances: bool
    object_threshold: float = 0.8
    overlap_threshold: float = 0.8
    max_instances: int = 100
    late_resize: bool = False

    @torch.inference_mode()
    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]:
        """One result a sample, at its record's size."""
        answer = outputs.layers[-1]
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        return [
            self._one(
                logits.float(),
                masks[:, 0].float(),
                Upsampler(canvas, (int(size[0, 0]), int(size[0, 1])), record.size),
            )
            for logits, masks, size, record in zip(
                answer.logits, answer.masks, batch.sizes, batch.records, strict=True
            )
        ]

    def _one(self, logits: Tensor, masks: Tensor, up: Upsampler) -> Result:
        """(Q, K+1), (Q, h, w) -> Result"""
        probs = logits.softmax(-1)
        result = Result()
        if self.semantic:
            late = self.late_resize and up.inside != up.size
            result.semantic = (semantic_late if late else semantic)(probs, masks, up)
        if self.panoptic:
            result.panoptic = self._panoptic(probs, masks, up)
        if self.instances:
            result.instances = self._instances(probs[:, :-1], masks, up)
        return result

    def _panoptic(self, probs: Tensor, masks: Tensor, up: Upsampler) -> Panoptic:
        scores, labels = probs.max(-1)
        kept = (labels != probs.shape[1] - 1) & (scores > self.object_threshold)
        scores, labels, masks = scores[kept], labels[kept], masks[kept]
        if not len(scores):
            return Panoptic(torch.zeros(up.size, dtype=torch.int32), [])
        owner = torch.empty(up.size, dtype=torch.int16)
        sure = torch.empty(up.size, dtype=torch.bool)
        counts = torch.zeros(3, len(scores), dtype=torch.int64)  # owned, whole mask, both
        for low, high in up.bands(len(scores), BUDGET):
            inside = up(masks, low, high).sigmoid()  # (N, rows, W)
            mine = (scores[:, None, None] * inside).argmax(0)
            whole = inside >= 0.5
            both = whole.gather(0, mine[None])[0]
            counts[0] += torch.bincount(mine.flatten(), minlength=len(scores)).cpu()
            counts[1] += whole.flatten(1).sum(1).cpu()
            counts[2] += torch.bincount(mine[both], minlength=len(scores)).cpu()
            owner[low:high], sure[low:high] = mine.to(torch.int16).cpu(), both.cpu()
        return self._paint(owner, sure, counts, scores.tolist(), labels.tolist())

    def _paint(
        self, owner: Tensor, sure: Tensor, counts: Tensor, scores: list[float], labels: list[int]
    ) -> Panoptic:
        """Ids for the segments that kept enough of their mask; stuff of a class shares one."""
        ids = torch.zeros(len(scores), dtype=torch.int32)
        segments: list[PanopticSegment] = []
        stuff: dict[int, PanopticSegment] = {}
        for i, (owned, whole, both) in enumerate(counts.T.tolist()):
            if min(owned, whole, both) == 0 or owned / whole < self.overlap_threshold:
                continue
            label = labels[i]
            if label in stuff:
                stuff[label].area += both
                ids[i] = stuff[label].id
                continue
            thing = self.is_thing[label]
            segments.append(PanopticSegment(len(segments) + 1, label, thing, scores[i], both))
            ids[i] = segments[-1].id
            if not thing:
                stuff[label] = segments[-1]
        return Panoptic(ids[owner.int()] * sure, segments)

    def _instances(self, probs: Tensor, masks: Tensor, up: Upsampler) -> Instances:
        K = probs.shape[1]
        scores, index = probs.flatten().topk(min(self.max_instances, probs.numel()))
        query, labels = index // K, index % K
        if self.panoptic:  # published: things only where the model is panoptic
            thing = torch.tensor(self.is_thing, device=labels.device)[labels]
            scores, query, labels = scores[thing], query[thing], labels[thing]
        unique, place = query.unique(return_inverse=True)
        rles, quality, boxes = _encode(masks[unique], up)
        place = place.cpu()
        scores = scores.cpu() * quality[place]
        best = scores.argsort(descending=True, stable=True)
        found = [rles[i] for i in place[best].tolist()]
        return Instances(scores[best], labels.cpu()[best], found, boxes[place[best]])


def _encode(masks: Tensor, up: Upsampler) -> tuple[list[Rle], Tensor, Tensor]:
    """RLE, mean probability inside and tight box of each mask (N, h, w) at the output size."""
    rles: list[Rle] = []
    quality, boxes = [torch.zeros(0)], [torch.zeros(0, 4)]
    step = max(1, BUDGET // (up.size[0] * up.size[1]))
    for start in range(0, len(masks), step):
        logits = up(masks[start : start + step])  # (n, H, W)
        inside = logits > 0
        area = inside.flatten(1).sum(1)
        total = logits.sigmoid_().mul_(inside).flatten(1).sum(1)
        quality.append((total / (area + 1e-6)).cpu())
        boxes.append(tight_boxes(inside).cpu())
        # column-major is the layout of RLE: transposed here, so that encoding copies nothing
        columns = inside.transpose(1, 2).to(torch.uint8).cpu().contiguous().numpy()
        rles += mask_io.encode(columns.transpose(0, 2, 1))
    return rles, torch.cat(quality), torch.cat(boxes)


def tight_boxes(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> (N, 4) x0 y0 x1 y1, exclusive ends; zeros for empty masks."""
    ends = []
    for axis in (1, 2):  # over rows: columns that show; over columns: rows that show
        shows = masks.any(axis)  # (N, W) or (N, H)
        length = shows.shape[1]
        first = shows.float().argmax(1)
        last = length - shows.flip(1).float().argmax(1)
        ends.append((first, last))
    (x0, x1), (y0, y1) = ends
    boxes = torch.stack((x0, y0, x1, y1), 1).float()
    return boxes * masks.flatten(1).any(1)[:, None]


def semantic(probs: Tensor, masks: Tensor, up: Upsampler) -> Tensor:
    """Class of every pixel (H, W), from masks at the output size."""
    classes = probs[:, :-1].T  # (K, Q)
    out = torch.empty(up.size, dtype=_label_type(len(classes)))
    for low, high in up.bands(len(masks) + len(classes), BUDGET):
        inside = up(masks, low, high).sigmoid()  # (Q, rows, W)
        scores = classes @ inside.flatten(1)  # (K, rows*W)
        out[low:high] = scores.argmax(0).view(high - low, -1).to(out.dtype).cpu()
    return out


def semantic_late(probs: Tensor, masks: Tensor, up: Upsampler) -> Tensor:
    """Class of every pixel (H, W), from class scores at the padded input size."""
    classes = probs[:, :-1].T  # (K, Q)
    input_size = Upsampler(up.canvas, up.canvas, up.canvas)
    maps = masks.new_empty(len(classes), *up.inside)
    for low, high in input_size.bands(len(masks), BUDGET):
        if low >= up.inside[0]:
            break
        inside = input_size(masks, low, high).sigmoid()  # (Q, rows, W)
        rows = min(high, up.inside[0]) - low
        part = classes @ inside[:, :rows, : up.inside[1]].flatten(1)
        maps[:, low : low + rows] = part.view(len(classes), rows, -1)
    best = torch.full(up.size, -1.0, device=masks.device)
    out = torch.zeros(up.size, dtype=_label_type(len(classes)), device=masks.device)
    for k, scores in enumerate(maps):
        value = F.interpolate(scores[None, None], up.size, mode="bilinear")[0, 0]
        better = value > best
        best, out = torch.where(better, value, best), out.masked_fill_(better, k)
    return out.cpu()


def _label_type(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= 256 else torch.int16
