"""From logits to semantic, panoptic and instance results at the original size.

Nothing holds Q x H x W: masks are chosen first, then upsampled in bands of columns or a few at a
time. Bands are transposed, (N, columns, H).

Legend of one-letter names: B samples, T views, Q queries, K classes, N kept masks, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mask2former.distinct import Duplicates, distinct
from mask2former.semantic import Scores, class_map, class_scores, late_scores
from segcore.contracts import AugmentedOutputs
from segcore.nn.mask_rles import encode
from segcore.nn.resize import Pieces, Upsampler
from segcore.pinned import download, upload
from segcore.structures import (
    Batch,
    Instances,
    Outputs,
    Panoptic,
    PanopticSegment,
    Result,
    Tracks,
)


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
        video: instances are tracks, even in a clip of one frame.
        pieces: that masks are upsampled in; None: as suits the device.
        duplicates: which are left out of panoptic maps, instances and tracks; None: none is.
    """

    is_thing: tuple[bool, ...]
    semantic: bool
    panoptic: bool
    instances: bool
    object_threshold: float = 0.8
    overlap_threshold: float = 0.8
    max_instances: int = 100
    late_resize: bool = False
    video: bool = False
    pieces: Pieces | None = None
    duplicates: Duplicates | None = None

    @torch.inference_mode()
    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]:
        """One result a sample, at its record's size; maps are those of the first view."""
        answer = outputs.layers[-1]
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        results = []
        for i, (sizes, record) in enumerate(zip(batch.sizes.tolist(), batch.records, strict=True)):
            views = [Upsampler(canvas, (h, w), record.size, self.pieces) for h, w in sizes]
            probs, masks = answer.logits[i].float().softmax(-1), answer.masks[i].float()
            queries = None if outputs.queries is None else outputs.queries[i]
            results.append(self._one(probs, masks, views, queries))
        return results

    @torch.inference_mode()
    def averaged(self, augmented: Sequence[AugmentedOutputs]) -> Result:
        """Semantic map of one image, from several versions of it."""
        scores = []
        for version in augmented:
            batch, answer = version.batch, version.outputs.layers[-1]
            h, w = batch.sizes[0, 0].tolist()
            canvas = (batch.images.shape[-2], batch.images.shape[-1])
            up = Upsampler(canvas, (h, w), batch.records[0].size, self.pieces)
            probs, masks = answer.logits[0].float().softmax(-1), answer.masks[0, :, 0].float()
            if version.classes is not None:  # (Q, K+1), each class's score from its name there
                probs = probs[:, [*version.classes, len(version.classes)]]
            scores.append((self._scores(probs, masks, up), version.mirrored))
        return Result(semantic=class_map(scores))

    def _scores(self, probs: Tensor, masks: Tensor, up: Upsampler) -> Scores:
        late = self.late_resize and up.inside != up.size
        return late_scores(probs, masks, up) if late else class_scores(probs, masks, up)

    def _one(
        self, probs: Tensor, masks: Tensor, views: list[Upsampler], queries: Tensor | None
    ) -> Result:
        """(Q, K+1), (Q, T, h, w), perhaps (Q, C) -> Result"""
        up = views[0]
        result = Result()
        if self.semantic:
            result.semantic = class_map([(self._scores(probs, masks[:, 0], up), False)])
        if self.panoptic or self.instances:
            (probs,) = download(probs)  # what follows is chosen on the host
        if self.panoptic:
            result.panoptic = self._panoptic(probs, masks[:, 0], up)
        if self.instances and len(views) == 1 and not self.video:
            result.instances = self._instances(probs[:, :-1], masks[:, 0], up)
        elif self.instances:
            result.tracks = self._tracks(probs[:, :-1], masks, views, queries)
        return result

    def _panoptic(self, probs: Tensor, masks: Tensor, up: Upsampler) -> Panoptic:
        """(Q, K+1) on the host, (Q, h, w) -> Panoptic"""
        scores, labels = probs.max(-1)
        (kept,) = torch.where((labels != probs.shape[1] - 1) & (scores > self.object_threshold))
        if self.duplicates:  # else they would share their pixels, and none keep enough of its mask
            kept = kept[scores[kept].argsort(descending=True, stable=True)]
            kept = kept[distinct(masks, kept, labels[kept], overlap=self.duplicates.overlap)]
        if not len(kept):
            return Panoptic(torch.zeros(up.size, dtype=torch.int32), [])
        scores, labels, device = scores[kept], labels[kept], masks.device
        columns, weight = up.columns(masks[upload(kept, device)]), upload(scores, device)
        H, W = up.size
        # of each pixel twice its segment, and 1 more where that is sure of it
        owners = torch.empty(W, H, dtype=torch.int16, device=device)
        areas = torch.zeros(len(kept), dtype=torch.int64, device=device)
        for low, high in columns.bands():
            inside = columns(low, high).sigmoid_()  # (N, columns, H)
            whole = inside >= 0.5
            mine = inside.mul_(weight[:, None, None]).argmax(0)
            areas += whole.sum((1, 2))
            owners[low:high] = 2 * mine + whole.gather(0, mine[None])[0]
        owners, areas = download(owners, areas)
        return self._paint(owners.T, areas.tolist(), scores.tolist(), labels.tolist())

    def _paint(
        self, owners: Tensor, areas: list[int], scores: list[float], labels: list[int]
    ) -> Panoptic:
        """Ids for the segments that kept enough of their mask; stuff of a class shares one."""
        pixels = torch.bincount(owners.flatten(), minlength=2 * len(scores)).view(-1, 2)
        ids = torch.zeros(len(scores), 2, dtype=torch.int32)
        segments: list[PanopticSegment] = []
        stuff: dict[int, PanopticSegment] = {}
        for i, (whole, (unsure, both)) in enumerate(zip(areas, pixels.tolist(), strict=True)):
            owned = unsure + both
            if min(owned, whole, both) == 0 or owned / whole < self.overlap_threshold:
                continue
            label = labels[i]
            if label in stuff:
                stuff[label].area += both
                ids[i, 1] = stuff[label].id
                continue
            thing = self.is_thing[label]
            segments.append(PanopticSegment(len(segments) + 1, label, thing, scores[i], both))
            ids[i, 1] = segments[-1].id
            if not thing:
                stuff[label] = segments[-1]
        return Panoptic(ids.flatten()[owners.int()].contiguous(), segments)

    def _best(self, probs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, K) on the host, (Q, ..., h, w) -> scores, queries, labels (N,) of the best pairs."""
        K = probs.shape[1]
        limit = self.max_instances * (self.duplicates.copies if self.duplicates else 1)
        scores, index = probs.flatten().topk(min(limit, probs.numel()))
        query, labels = index // K, index % K
        if self.panoptic:  # published: things only where the model is panoptic
            thing = torch.tensor(self.is_thing)[labels]
            scores, query, labels = scores[thing], query[thing], labels[thing]
        if self.duplicates:
            kept = distinct(masks, query, labels, overlap=self.duplicates.overlap)
            kept = kept[: self.max_instances]
            scores, query, labels = scores[kept], query[kept], labels[kept]
        return scores, query, labels

    def _instances(self, probs: Tensor, masks: Tensor, up: Upsampler) -> Instances:
        """(Q, K), (Q, h, w) -> Instances; scores are class probability times mask quality."""
        scores, query, labels = self._best(probs, masks)
        unique, place = query.unique(return_inverse=True)  # a query may have several labels
        encoded = encode(masks[upload(unique, masks.device)], up)
        scores = scores * encoded.quality[place]
        order = scores.argsort(descending=True, stable=True)
        place = place[order]
        rles = [encoded.rles[i] for i in place.tolist()]
        return Instances(scores[order], labels[order], rles, encoded.boxes[place])

    def _tracks(
        self, probs: Tensor, masks: Tensor, views: list[Upsampler], queries: Tensor | None
    ) -> Tracks:
        """(Q, K), (Q, T, h, w) -> Tracks; published: a track's score is its class alone."""
        scores, query, labels = self._best(probs, masks)
        unique, place = query.unique(return_inverse=True)
        chosen = masks[upload(unique, masks.device)]
        frames = [encode(chosen[:, t], up).rles for t, up in enumerate(views)]
        tracks = [list(track) for track in zip(*frames, strict=True)]
        order = scores.argsort(descending=True, stable=True)
        embeddings = None
        if queries is not None:
            embeddings = queries[upload(query[order], queries.device)].float().cpu()
        masks_of = [tracks[i] for i in place[order].tolist()]
        return Tracks(scores[order], labels[order], masks_of, embeddings)
