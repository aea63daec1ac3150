"""Errors of label images, against maps worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from squares import THREE

from segcore.errors import DataError
from segcore.report.collector import FailureCollector
from segcore.report.compared import DOUBT
from segcore.report.page import report_page
from segcore.report.pixels import (
    doubtful_regions,
    pixel_outcome,
    pixel_reasons,
    wrong_pixels,
)
from segcore.report.section import Section
from segcore.structures import Frame, Record, Result


def striped(*columns):
    """(10, n) classes, a column each."""
    return np.tile(np.array(columns, np.uint8), (10, 1))


def example(folder, truth, predicted, name="a"):
    Image.fromarray(truth).save(folder / f"{name}.png")
    Image.fromarray(np.stack([truth * 50] * 3, 2)).save(folder / f"{name}.bmp")
    frame = Frame(folder / f"{name}.bmp", semantic=folder / f"{name}.png")
    result = Result(semantic=torch.from_numpy(predicted))
    return result, Record(name, truth.shape, (frame,))


def test_wrong_pixels_have_one_cause_each():
    truth = np.array([[0] * 10 + [1] * 10 + [2] * 4], np.int32).repeat(10, 0)
    predicted = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0, 1] + [1] * 14], np.int32).repeat(10, 0)
    truth[:, 5] = -1  # with borders of its own
    columns = {k: np.flatnonzero(v[0]).tolist() for k, v in wrong_pixels(truth, predicted).items()}
    assert columns == {"missed": [20, 21, 22, 23], "wrong class": [0], "boundary": [9]}


def test_pixels_are_counted_by_pairs_of_classes(tmp_path):
    truth, predicted = striped(0, 0, 0, 1, 255), striped(0, 0, 1, 1, 2)
    outcome = pixel_outcome(*example(tmp_path, truth, predicted), THREE)
    assert outcome.matrix(3).tolist() == [[20, 10, 0], [0, 10, 0], [0, 0, 0]]
    assert sum(outcome.causes.values()) == 10
    assert pixel_reasons(outcome) == {0: (0.25,), 1: (0.25,)}


def test_a_region_seen_as_another_class_is_suspicious(tmp_path):
    truth, predicted = striped(0, 0, 0, 1, 1, 1, 1, 1), striped(0, 0, 1, 2, 2, 2, 2, 1)
    outcome = pixel_outcome(*example(tmp_path, truth, predicted), THREE)
    assert doubtful_regions(outcome) == [(1, 2, 0.8)]
    assert pixel_reasons(outcome)[DOUBT] == (0.8,)


def test_another_size_raises(tmp_path):
    given = example(tmp_path, striped(0, 0, 0), striped(0, 0))
    with pytest.raises(DataError, match=r"labels are \(10, 3\), the prediction is \(10, 2\)"):
        pixel_outcome(*given, THREE)


def test_the_page_of_label_images(tmp_path):
    def outcome_of(result, record):
        return pixel_outcome(result, record, THREE)

    collector = FailureCollector(outcome_of, pixel_reasons, 3)
    for i, predicted in enumerate([striped(0, 0, 2, 2), striped(0, 1, 1, 1)]):
        collector.update(*example(tmp_path, striped(0, 0, 1, 1), predicted, f"<i>{i}"))
    text = report_page(
        "a", {"mIoU": 50.0, "IoU-cat": 71.5}, [Section("semantic", THREE, collector)]
    )
    assert "80 annotated pixels, 30 of them wrong" in text
    assert 'data-value="71.5000"' in text and "there is no curve" in text
    assert "labelled dog, 100 % of it seen as &lt;b&gt;$x&lt;/b&gt;" in text
    assert "75.0 % of the pixels are right" in text and "<i>" not in text
    assert text.count("<figure") == 1 + 2 + 1  # the matrix, two images, one of them in doubt
