"""The boundary of a mask, and COCO's matching with it (Cheng et al., 2021).

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.structures import Metadata, Rle

DILATION = 0.02  # width of the boundary as a share of the image's diagonal
DILATION_OF = {"cityscapes": 0.005}  # by the family of the data set: its images are larger


def dilation_of(metadata: Metadata) -> float:
    """The width that is usual for the data set."""
    return DILATION_OF.get(metadata.name.partition("_")[0], DILATION)


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

    def __init__(self, truth: Any, found: Any, dilation: float) -> None:
        super().__init__(truth, found, "segm")
        self.dilation = dilation

    def computeIoU(self, imgId: int, catId: int):  # pycocotools chose the name
        """Detections (by score) x truths."""
        iou = super().computeIoU(imgId, catId)
        if len(iou) == 0:
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
