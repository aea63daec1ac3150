"""COCO average precision of masks and boxes, and Boundary AP.

Legend of one-letter names: N masks, K classes, H W pixels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import vernier
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.boundary import BoundaryCOCOeval, dilation_of
from segcore.labels import frame_ids
from segcore.structures import Frame, Metadata, PngId, Record, Result, Rle, Segment, Size


@dataclass(frozen=True, slots=True)
class Part:
    """Truth and findings of one image, as RLE."""

    size: Size
    truth: list[tuple[int, Rle, float, bool]]  # class, mask, area, crowd
    found: list[tuple[int, Rle, float]]  # class, mask, score


class InstanceEvaluator:
    """AP over IoU .5:.95 with at most `max_dets` detections per image and class.

    Args:
        boundary: Boundary AP instead (Cheng et al., 2021): the IoU of two masks is the smaller
            of their mask IoU and their boundary IoU.
        dilation: width of the boundary as a share of the image's diagonal; None: what is usual
            for the data set (.02; Cityscapes .005).
        backend: "vernier", or "pycocotools": the same numbers to the last bit, slower.
        truth: from a record to the one whose segments are the ground truth, where that is another.
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        max_dets: int = 100,
        boundary: bool = False,
        dilation: float | None = None,
        backend: str = "vernier",
        truth: Callable[[Record], Record] | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend {backend!r}: expected one of {', '.join(BACKENDS)}")
        self.metadata, self.max_dets, self.boundary = metadata, max_dets, boundary
        self.dilation = dilation_of(metadata) if dilation is None else dilation
        self.backend, self.truth = BACKENDS[backend], truth
        self.parts: list[Part] = []

    def update(self, result: Result, record: Record) -> None:
        """Keep the RLEs of one image."""
        assert result.instances is not None
        found = result.instances
        for rle in found.masks[:1]:
            _check(tuple(rle["size"]), record, "found masks are")
        asked = self.truth(record) if self.truth else record
        things = [s for s in asked.frames[0].segments if self.metadata.is_thing[s.category]]
        truth = [
            (s.category, rle, float(masks.area([rle])[0]) if s.area is None else s.area, s.crowd)
            for s, rle in zip(things, _rles(things, asked), strict=True)
        ]
        triples = zip(found.labels.tolist(), found.masks, found.scores.tolist(), strict=True)
        self.parts.append(Part(record.size, truth, list(triples)))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR and AP-<class> in percent; box AP as APb."""
        truth, found = _datasets(self.parts, len(self.metadata.classes))
        kind, prefix = ("boundary", "boundary ") if self.boundary else ("segm", "")
        precision, recall = self.backend(truth, found, kind, self.max_dets, self.dilation)
        results = {prefix + name: value for name, value in _summary(precision).items()}
        results[f"{prefix}AR{self.max_dets}"] = _percent(recall[:, :, 0])
        if not self.boundary:
            boxes, _ = self.backend(truth, found, "bbox", self.max_dets, self.dilation)
            results["APb"] = _percent(boxes[..., 0])
        for k in np.flatnonzero((precision[..., 0] > -1).any((0, 1))):
            results[f"{prefix}AP-{self.metadata.classes[k]}"] = _percent(precision[:, :, k, 0])
        return results


def _summary(precision: np.ndarray) -> dict[str, float]:
    """From (thresholds, recalls, K, areas) to pycocotools' first six numbers."""
    return {
        "AP": _percent(precision[..., 0]),
        "AP50": _percent(precision[0, ..., 0]),
        "AP75": _percent(precision[5, ..., 0]),
        "APs": _percent(precision[..., 1]),
        "APm": _percent(precision[..., 2]),
        "APl": _percent(precision[..., 3]),
    }


def _percent(values: np.ndarray) -> float:
    """The mean of what has ground truth (the rest is -1)."""
    valid = values[values > -1]
    return 100 * float(valid.mean()) if valid.size else float("nan")


# ---------------------------------------------------------------- ground truth


def _rles(things: Sequence[Segment], record: Record) -> list[Rle]:
    """N masks; a panoptic PNG is read and walked through once for all that it holds."""
    frame: Frame = record.frames[0]
    numbers = [s.shape.id for s in things if isinstance(s.shape, PngId)]
    painted: dict[int, Rle] = {}
    if numbers:
        ids = frame_ids(frame)
        _check(ids.shape, record, f"{frame.panoptic} is")
        painted = dict(zip(numbers, rles_of(ids, numbers), strict=True))
    return [
        painted[s.shape.id] if isinstance(s.shape, PngId) else masks.to_rle(s, frame, record.size)
        for s in things
    ]


def rles_of(ids: np.ndarray, numbers: Sequence[int]) -> list[Rle]:
    """(H, W) ids -> the RLE of each number, without an image per segment."""
    flat = ids.T.ravel()  # column-major, as RLEs are
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1))
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    values, starts, ends = values[order], starts[order], ends[order]
    first = np.searchsorted(values, numbers, "left")
    last = np.searchsorted(values, numbers, "right")
    rles = []
    for a, b in zip(first.tolist(), last.tolist(), strict=True):  # RLEs differ in length
        edges = np.stack([starts[a:b], ends[a:b]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size).tolist()
        if counts[-1] == 0:
            counts.pop()
        rles.append(masks.compress(counts, (ids.shape[0], ids.shape[1])))
    return rles


def _check(size: tuple[int, ...], record: Record, what: str) -> None:
    if tuple(size) != tuple(record.size):
        raise DataError(
            f"{record.frames[0].file}: {what} {tuple(size)}, the annotations say"
            f" {tuple(record.size)}; expected the same height and width"
        )


# ---------------------------------------------------------------- COCO's evaluation


def _datasets(parts: Sequence[Part], num_classes: int) -> tuple[COCO, COCO]:
    """Truth and findings as COCO holds them; images and annotations are renumbered."""
    images = [
        {"id": i, "height": part.size[0], "width": part.size[1]} for i, part in enumerate(parts)
    ]
    truth, found = [], []
    for i, part in enumerate(parts):
        for k, rle, area, crowd in part.truth:
            truth.append(_entry(len(truth) + 1, i, k, rle) | {"area": area, "iscrowd": int(crowd)})
        for k, rle, score in part.found:
            area = float(masks.coco_mask.area(rle))
            entry = _entry(len(found) + 1, i, k, rle)
            found.append(entry | {"area": area, "iscrowd": 0, "score": score})
    categories = [{"id": k, "name": str(k)} for k in range(num_classes)]
    return _index(images, categories, truth), _index(images, categories, found)


def _entry(number: int, image: int, category: int, rle: Rle) -> dict[str, Any]:
    box = masks.coco_mask.toBbox(rle).tolist()
    keys = {"id": number, "image_id": image, "category_id": category}
    return keys | {"segmentation": rle, "bbox": box}


def _index(images: list, categories: list, annotations: list) -> COCO:
    coco: Any = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        coco.createIndex()
    return coco


Tables = tuple[np.ndarray, np.ndarray]  # precision (T, R, K, areas), recall (T, K, areas)


def _vernier(truth: COCO, found: COCO, kind: str, max_dets: int, dilation: float) -> Tables:
    return _run(
        vernier.COCOeval(truth, found, kind, dilation, parity_mode="strict"),  # type: ignore
        max_dets,
    )


def _pycocotools(truth: COCO, found: COCO, kind: str, max_dets: int, dilation: float) -> Tables:
    run: Any = (
        BoundaryCOCOeval(truth, found, dilation)
        if kind == "boundary"
        else COCOeval(truth, found, kind)  # type: ignore[arg-type]
    )
    return _run(run, max_dets)


def _run(run: Any, max_dets: int) -> Tables:
    run.params.maxDets = [max_dets]
    with contextlib.redirect_stdout(io.StringIO()):
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][..., -1], run.eval["recall"][..., -1]


BACKENDS: dict[str, Callable[[COCO, COCO, str, int, float], Tables]] = {
    "vernier": _vernier,
    "pycocotools": _pycocotools,
}
