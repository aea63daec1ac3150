"""pycocotools' evaluation, and its matching by boundaries (Cheng et al., 2021): the oracle.

Legend of one-letter names: H W pixels.
"""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.structures import Rle


def coco_tables(truth, predictions, kind, *, max_dets, dilation):
    """What segcore.evaluation.coco_ap makes with vernier."""
    evaluation = (
        BoundaryCOCOeval(truth, predictions, dilation)
        if kind == "boundary"
        else COCOeval(truth, predictions, kind)
    )
    evaluation.params.maxDets = [max_dets]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]


def boundary(rle: Rle, dilation: float) -> Rle:
    """Pixels of a mask within `dilation` x diagonal of its outline; the image's edge counts."""
    mask = masks.decode(rle)
    distance = max(1, round(dilation * float(np.hypot(*mask.shape))))
    inner = _erode(_erode(mask, distance, 0), distance, 1)
    return masks.encode((mask & ~inner)[None])[0]


def _erode(mask: np.ndarray, distance: int, axis: int) -> np.ndarray:
    """(H, W) True where all pixels within `distance` along the axis are; outside is False."""
    size = 2 * distance + 1
    pad = [(0, 0), (0, 0)]
    pad[axis] = (distance + 1, distance)
    total = np.cumsum(np.pad(mask, pad), axis=axis, dtype=np.int32)
    length = mask.shape[axis]
    high = np.take(total, range(size, size + length), axis=axis)
    low = np.take(total, range(length), axis=axis)
    return high - low == size


class BoundaryCOCOeval(COCOeval):  # type: ignore[misc]
    """pycocotools' evaluation, in which the IoU is the smaller of mask and boundary IoU."""

    _gts: Any
    _dts: Any

    def __init__(self, truth: Any, predictions: Any, dilation: float) -> None:
        super().__init__(truth, predictions, "segm")
        self.dilation = dilation

    def computeIoU(self, imgId: int, catId: int):  # pycocotools chose the name
        """Detections (by score) x truths."""
        iou = super().computeIoU(imgId, catId)
        if len(iou) == 0:
            return iou
        truth, predictions = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-d["score"] for d in predictions], kind="mergesort")
        predictions = [predictions[i] for i in order[: self.params.maxDets[-1]]]
        edges = [
            [boundary(entry["segmentation"], self.dilation) for entry in entries]
            for entries in (predictions, truth)
        ]
        crowd = [int(t["iscrowd"]) for t in truth]
        narrow = masks.coco_mask.iou(edges[0], edges[1], crowd)
        return np.where(np.array(crowd, bool), iou, np.minimum(iou, narrow))  # crowds: mask only
