"""COCO's tables of precision and recall, by vernier; what they are made from, and their summary.

Legend of one-letter names: N masks, K classes, T thresholds of IoU, R levels of recall.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import vernier
from pycocotools.coco import COCO

from segcore import masks
from segcore.structures import Rle, Size

Tables = tuple[np.ndarray, np.ndarray]  # precision (T, R, K, areas), recall (T, K, areas)


@dataclass(frozen=True, slots=True)
class Part:
    """Truth and predictions of one image, as RLE."""

    size: Size
    truth: list[tuple[int, Rle, float, bool]]  # class, mask, area, crowd
    predictions: list[tuple[int, Rle, float]]  # class, mask, score
    truth_boxes: np.ndarray  # (N, 4) x y w h of the truth
    boxes: np.ndarray  # (N, 4) x y w h of the predictions
    negatives: tuple[int, ...] = ()  # of LVIS, as the record has them
    not_exhaustive: tuple[int, ...] = ()

    def most_of_a_class(self) -> int:
        """Objects of the class that has most in this image, crowds left out."""
        return max(Counter(k for k, _, _, crowd in self.truth if not crowd).values(), default=0)


def coco_datasets(parts: Sequence[Part], num_classes: int) -> tuple[COCO, COCO]:
    """Truth and predictions as COCO holds them; images and annotations are renumbered."""
    images = [
        {"id": i, "height": part.size[0], "width": part.size[1]} for i, part in enumerate(parts)
    ]
    truth, predictions = [], []
    for i, part in enumerate(parts):
        for (k, rle, area, crowd), box in zip(part.truth, part.truth_boxes.tolist(), strict=True):
            entry = _entry(len(truth) + 1, i, k, rle, box)
            truth.append(entry | {"area": area, "iscrowd": int(crowd)})
        for (k, rle, score), box in zip(part.predictions, part.boxes.tolist(), strict=True):
            area = float(masks.area([rle])[0])
            entry = _entry(len(predictions) + 1, i, k, rle, box)
            predictions.append(entry | {"area": area, "iscrowd": 0, "score": score})
    categories = [{"id": k, "name": str(k)} for k in range(num_classes)]
    return _index(images, categories, truth), _index(images, categories, predictions)


def _entry(number: int, image: int, category: int, rle: Rle, box: list[float]) -> dict[str, Any]:
    keys = {"id": number, "image_id": image, "category_id": category}
    return keys | {"segmentation": rle, "bbox": box}


def _index(
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
) -> COCO:
    coco: Any = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        coco.createIndex()
    return coco


def coco_tables(
    truth: COCO, predictions: COCO, kind: str, *, max_dets: int, dilation: float
) -> Tables:
    """Tables over IoU .5:.95, as pycocotools makes them, to the last bit.

    Args:
        kind: "segm", "bbox", or "boundary": the IoU of two masks is then the smaller of their
            mask IoU and their boundary IoU (Cheng et al., 2021).
        max_dets: best-scored detections of an image and class that count.
        dilation: width of a boundary as a share of the image's diagonal.
    """
    evaluation: Any = vernier.COCOeval(truth, predictions, kind, dilation, parity_mode="strict")  # type: ignore[arg-type]  # its stubs want text where it takes a dilation
    evaluation.params.maxDets = [max_dets]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., -1], evaluation.eval["recall"][..., -1]


def summary(precision: np.ndarray) -> dict[str, float]:
    """From (thresholds, recalls, K, areas) to pycocotools' first six numbers."""
    return {
        "AP": percent(precision[..., 0]),
        "AP50": percent(precision[0, ..., 0]),
        "AP75": percent(precision[5, ..., 0]),
        "APs": percent(precision[..., 1]),
        "APm": percent(precision[..., 2]),
        "APl": percent(precision[..., 3]),
    }


def percent(values: np.ndarray) -> float:
    """The mean of what has ground truth (the rest is -1)."""
    valid = values[values > -1]
    return 100 * float(valid.mean()) if valid.size else float("nan")
