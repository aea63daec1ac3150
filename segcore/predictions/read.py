"""Predictions of whatever form lies in a file or folder."""

from __future__ import annotations

from pathlib import Path

from segcore.errors import DataError
from segcore.predictions.cityscapes_results import cityscapes_files, read_cityscapes_results
from segcore.predictions.coco_results import read_coco_results
from segcore.predictions.demo_results import demo_files, read_demo_results
from segcore.predictions.image_predictions import Predictions


def read_predictions(path: Path) -> Predictions:
    """Whatever lies there: COCO's results, a folder in Cityscapes' form, or one of the demo's."""
    if path.is_dir():
        if cityscapes_files(path):
            return read_cityscapes_results(path)
        if demo_files(path):
            return read_demo_results(path)
        raise DataError(
            f"{path}: has no predictions in it; expected Cityscapes' *_pred.txt, or the demo's JSON"
            " files with instances"
        )
    return read_coco_results(path)
