"""LVIS's tables of precision and recall, by vernier (Gupta et al., 2019).

Not every class was looked for in every image. A prediction counts where its class is annotated or
known to be absent; where a class is annotated but not every object of it, a surplus prediction is
no mistake.

Legend of one-letter names: N predictions of an image, K classes, T thresholds of IoU, R levels of
recall.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from vernier import instance as vernier_instance

from segcore.evaluation.coco_ap import Part, Tables, percent
from segcore.structures import Rle

FREQUENCIES = ("r", "c", "f")  # rare, common, frequent among the training images
LvisData = tuple[vernier_instance.CocoDataset, list[Any]]

_tables: Any = vernier_instance  # its functions of tables are not among the names that it exports
GRIDS = {
    "bbox": _tables.evaluate_bbox_grid,
    "segm": _tables.evaluate_segm_grid,
    "boundary": _tables.evaluate_boundary_grid,
}


def lvis_datasets(parts: Sequence[Part], num_classes: int, *, max_dets: int) -> LvisData:
    """Truth and predictions as vernier takes them; images and annotations are renumbered.

    Args:
        max_dets: best-scored predictions of an image that count, over all classes.
    """
    images, truth = [], []
    for i, part in enumerate(parts):
        images.append({"id": i, "height": part.size[0], "width": part.size[1]} | _known(part))
        # crowds are unknown to LVIS
        for (k, rle, area, _), box in zip(part.truth, part.truth_boxes.tolist(), strict=True):
            entry = {"id": len(truth) + 1, "image_id": i, "category_id": k, "area": area}
            truth.append(entry | {"bbox": box, "segmentation": _text(rle), "iscrowd": 0})
    # the frequency is not used here: see `by_frequency`
    categories = [{"id": k, "name": str(k), "frequency": "f"} for k in range(num_classes)]
    content = {"images": images, "annotations": truth, "categories": categories}
    dataset = vernier_instance.CocoDataset.from_lvis_json(json.dumps(content).encode())
    return dataset, [_columns(i, part, max_dets) for i, part in enumerate(parts)]


def _known(part: Part) -> dict[str, list[int]]:
    """What is known of classes; vernier refuses contradictions, which change no number.

    A class of which nothing is annotated, but not exhaustively, has surplus predictions alone.
    """
    positive = {k for k, _, _, _ in part.truth}
    partly = set(part.not_exhaustive)
    return {
        "neg_category_ids": sorted(set(part.negatives) - positive - partly),
        "not_exhaustive_category_ids": sorted(partly & positive),
    }


def _text(rle: Rle) -> dict[str, Any]:
    return {"size": rle["size"], "counts": bytes(rle["counts"]).decode()}


def _columns(image: int, part: Part, max_dets: int) -> dict[str, Any]:
    """The best predictions of an image, but for classes of which nothing is known there."""
    labels = np.array([k for k, _, _ in part.predictions], np.int64)
    scores = np.array([score for _, _, score in part.predictions], np.float64)
    best = np.argsort(-scores, kind="stable")[:max_dets]
    best = best[np.isin(labels[best], [*part.negatives, *(k for k, _, _, _ in part.truth)])]
    rles = [part.predictions[n][1] for n in best]
    return {
        "image_id": image,
        "boxes": np.ascontiguousarray(part.boxes[best], np.float64),
        "scores": scores[best],
        "labels": labels[best],
        "rles": [{"size": tuple(rle["size"]), "counts": bytes(rle["counts"])} for rle in rles],
    }


def lvis_tables(
    truth: vernier_instance.CocoDataset,
    predictions: list[Any],
    kind: str,
    *,
    max_dets: int,
    dilation: float,
) -> Tables:
    """Tables over IoU .5:.95, as the `lvis` package makes them; arguments as of `coco_tables`."""
    options: dict[str, Any] = {
        "parity_mode": "strict",
        "max_dets_per_image": max_dets,
        "use_cats": True,
        "dt_area": "bbox" if kind == "bbox" else "mask",
    }
    if kind == "boundary":
        options["dilation_ratio"] = dilation
    tables = GRIDS[kind](truth, predictions, **options).accumulate([max_dets])
    return np.asarray(tables.precision)[..., -1], np.asarray(tables.recall)[..., -1]


def by_frequency(precision: np.ndarray, frequencies: Sequence[str]) -> dict[str, float]:
    """APr, APc, APf: the mean over the classes that are rare, common or frequent in training."""
    found = np.array(frequencies)
    return {f"AP{name}": percent(precision[:, :, found == name, 0]) for name in FREQUENCIES}
