"""Mean IoU over classes.

Counts of numpy, not vernier's partial results: K x K numbers, whatever the number of images, that
add up over processes. Tests hold them to vernier in strict mode.

Legend of one-letter names: K classes, H W pixels.
"""

from __future__ import annotations

import numpy as np

from segcore.errors import DataError
from segcore.evaluation.trivial import warn_trivial
from segcore.labels import semantic_map
from segcore.structures import Metadata, Record, Result


class SemanticEvaluator:
    """One confusion matrix, whatever the number of images; ignored pixels cost nothing."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        K = len(metadata.classes)
        self.parts: list[np.ndarray] = [np.zeros((K, K), np.int64)]  # truth x prediction

    def update(self, result: Result, record: Record) -> None:
        """Count the pixels of one image."""
        assert result.semantic is not None
        truth = semantic_map(record.frames[0], self.metadata)
        predicted = result.semantic.numpy()
        if truth.shape != predicted.shape:
            raise DataError(
                f"{record.frames[0].semantic or record.frames[0].panoptic}: labels are"
                f" {truth.shape}, the image is {predicted.shape}; expected the same height and"
                " width"
            )
        K, known = len(self.metadata.classes), truth >= 0
        pairs = truth[known].astype(np.int64) * K + predicted[known]
        self.parts[0] += np.bincount(pairs, minlength=K * K).reshape(K, K)

    def compute(self) -> dict[str, float]:
        """mIoU, fwIoU, mACC, pACC and IoU-<class> in percent, over classes that occur."""
        matrix = np.sum(self.parts, axis=0).astype(np.float64)
        right, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        occurs = truth > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = right / (truth + predicted - right)
            accuracy = right / truth
        if not occurs.any():
            return dict.fromkeys(("mIoU", "fwIoU", "mACC", "pACC"), float("nan"))
        if occurs.sum() == 1:
            (k,) = np.flatnonzero(occurs)
            warn_trivial(self.metadata, int(k), "mIoU")
        results = {
            "mIoU": iou[occurs].mean(),
            "fwIoU": (iou[occurs] * truth[occurs]).sum() / truth.sum(),
            "mACC": accuracy[occurs].mean(),
            "pACC": right.sum() / truth.sum(),
        }
        for k in np.flatnonzero(occurs):
            results[f"IoU-{self.metadata.row_names[k]}"] = iou[k]
        return {name: 100 * float(value) for name, value in results.items()}
