"""COCO average precision of masks and boxes, and Boundary AP."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.structures import Metadata, PngId, Record, Result, Rle

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, slots=True)
class Part:
    """Truth and findings of one image, as RLE."""

    size: list[int]
    truth: list[tuple[int, Rle, float, bool]]  # class, mask, area, crowd
    found: list[tuple[int, Rle, float]]  # class, mask, score


class InstanceEvaluator:
    """AP over IoU .5:.95 with at most `max_dets` detections an image; numbers of pycocotools.

    Args:
        boundary: Boundary AP instead (Cheng et al., 2021): the IoU of two masks is the smaller
            of their mask IoU and their boundary IoU.
        dilation: width of the boundary as a share of the image's diagonal.
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        max_dets: int = 100,
        boundary: bool = False,
        dilation: float = 0.02,
    ) -> None:
        self.metadata, self.max_dets = metadata, max_dets
        self.boundary, self.dilation = boundary, dilation
        self.parts: list[Part] = []

    def update(self, result: Result, record: Record) -> None:
        """Keep the RLEs of one image."""
        assert result.instances is not None
        frame, instances = record.frames[0], result.instances
        ids = None
        if any(isinstance(s.shape, PngId) for s in frame.segments):
            ids = masks.read_ids(masks.panoptic_file(frame))
        truth = []
        for segment in frame.segments:
            if self.metadata.is_thing[segment.category]:
                rle = masks.to_rle(segment, frame, record.size, ids)
                size = segment.area if segment.area is not None else float(masks.area([rle])[0])
                truth.append((segment.category, rle, size, segment.crowd))
        triples = zip(
            instances.labels.tolist(), instances.masks, instances.scores.tolist(), strict=True
        )
        self.parts.append(Part(list(record.size), truth, list(triples)))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl and AP-<class> in percent; box AP as APb."""
        prefix = "boundary " if self.boundary else ""
        precision, stats = self._run("segm")
        results = {prefix + name: value for name, value in zip(STATS, stats, strict=True)}
        if not self.boundary:
            results["APb"] = self._run("bbox")[1][0]
        for k, name in enumerate(self.metadata.classes):
            if self.metadata.is_thing[k]:
                valid = precision[:, :, k][precision[:, :, k] > -1]
                if valid.size:
                    results[f"{prefix}AP-{name}"] = 100 * float(valid.mean())
        return results

    def _run(self, kind: str) -> tuple[np.ndarray, list[float]]:
        truth: Any = COCO()
        found: Any = COCO()
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            truth.dataset, found.dataset = self._datasets()
            truth.createIndex()
            found.createIndex()
            run = _Eval(truth, found, kind, self.dilation if self.boundary else None)
            run.params.maxDets = [1, 10, self.max_dets]
            run.evaluate()
            run.accumulate()
        precision = run.eval["precision"][:, :, :, :, 2]  # (thresholds, recalls, K, areas)
        picks = [precision[:, :, :, 0], precision[0, :, :, 0], precision[5, :, :, 0]]
        picks += [precision[:, :, :, area] for area in (1, 2, 3)]
        stats = [100 * float(p[p > -1].mean()) if (p > -1).any() else float("nan") for p in picks]
        return precision[..., 0], stats

    def _datasets(self) -> tuple[dict[str, list], dict[str, list]]:
        images, truth, found = [], [], []
        for i, part in enumerate(self.parts):
            images.append({"id": i, "height": part.size[0], "width": part.size[1]})
            for k, rle, area, crowd in part.truth:
                entry = _entry(len(truth) + 1, i, k, rle)
                truth.append(entry | {"area": area, "iscrowd": int(crowd)})
            for k, rle, score in part.found:
                entry = _entry(len(found) + 1, i, k, rle)
                entry["area"] = float(masks.coco_mask.area(rle))
                found.append(entry | {"score": score, "iscrowd": 0})
        categories = [{"id": k} for k in range(len(self.metadata.classes))]
        common = {"images": images, "categories": categories}
        return common | {"annotations": truth}, common | {"annotations": found}


def _entry(number: int, image: int, category: int, rle: Rle) -> dict:
    box = [float(v) for v in masks.coco_mask.toBbox(rle)]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "bbox": box,
    }


class _Eval(COCOeval):  # type: ignore[misc]
    """pycocotools' evaluation; with a dilation, boundaries take part in the IoU."""

    _gts: Any
    _dts: Any

    def __init__(self, truth: Any, found: Any, kind: Any, dilation: float | None) -> None:
        super().__init__(truth, found, kind)
        self.dilation = dilation

    def computeIoU(self, imgId: int, catId: int):  # pycocotools chose the name
        """Detections (by score) x truths."""
        iou = super().computeIoU(imgId, catId)
        if self.dilation is None or len(iou) == 0:
            return iou
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-d["score"] for d in found], kind="mergesort")
        found = [found[i] for i in order[: self.params.maxDets[-1]]]
        edges = [
            [boundary(entry["segmentation"], self.dilation) for entry in entries]
            for entries in (found, truth)
        ]
        crowd = [int(t["iscrowd"]) for t in truth]
        narrow = masks.coco_mask.iou(edges[0], edges[1], crowd)
        return np.where(np.array(crowd, bool), iou, np.minimum(iou, narrow))  # crowds: mask only


def boundary(rle: Rle, dilation: float) -> Rle:
    """Pixels of a mask within `dilation` x diagonal of its outline; the image's edge counts."""
    mask = masks.decode(rle)
    distance = max(1, round(dilation * float(np.hypot(*mask.shape))))
    inner = _erode(_erode(mask, distance, 0), distance, 1)
    return masks.encode((mask & ~inner)[None])[0]


def _erode(mask: np.ndarray, distance: int, axis: int) -> np.ndarray:
    """True where all pixels within `distance` along the axis are; outside is False."""
    size = 2 * distance + 1
    pad = [(0, 0), (0, 0)]
    pad[axis] = (distance + 1, distance)
    total = np.cumsum(np.pad(mask, pad).astype(np.int32), axis=axis)
    length = mask.shape[axis]
    high = np.take(total, range(size, size + length), axis=axis)
    low = np.take(total, range(length), axis=axis)
    return high - low == size
