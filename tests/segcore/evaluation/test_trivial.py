"""Metrics that a single answer makes perfect say so; classes of one name have rows of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segcore import masks
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.evaluation.table import format_table
from segcore.structures import (
    Frame,
    Instances,
    Metadata,
    Panoptic,
    PanopticSegment,
    Polygons,
    Record,
    Result,
    Segment,
)

SQUARE = Polygons(((0, 0, 4, 0, 4, 4, 0, 4),))


def metadata(*classes, thing=True, **more):
    K = len(classes)
    ids = tuple(range(1, K + 1))
    return Metadata("mine", classes, ids, (thing,) * K, ((0, 0, 0),) * K, **more)


@pytest.mark.parametrize(("values", "warned"), [((0, 255), True), ((0, 1), False)])
def test_a_semantic_set_of_one_class_says_that_its_numbers_say_nothing(
    tmp_path, caplog, values, warned
):
    labels = np.repeat(np.array([values], np.uint8), 4, 1).repeat(4, 0)
    Image.fromarray(labels).save(tmp_path / "a.png")
    evaluator = SemanticEvaluator(metadata("lesion", "skin", thing=False))
    record = Record(1, (4, 8), (Frame(tmp_path / "a.jpg", semantic=tmp_path / "a.png"),))
    evaluator.update(Result(semantic=torch.zeros(4, 8, dtype=torch.uint8)), record)
    assert (evaluator.compute()["mIoU"] == 100) == warned
    assert ("every annotated pixel is 'lesion'" in caplog.text) == warned


def scene(category, thing, caplog, *, absent=()):
    """PQ of one annotated square, found as it is, and of a class elsewhere."""
    record = Record(1, (4, 8), (Frame(Path("a.jpg"), (Segment(0, SQUARE),)),))
    ids = torch.zeros(4, 8, dtype=torch.int32)
    ids[:, :4], ids[0, 3] = 1, 2
    segments = [PanopticSegment(1, 0, thing, 1.0, 15), PanopticSegment(2, category, thing, 1.0, 1)]
    evaluator = PanopticEvaluator(metadata("a", "b", thing=thing, absent=absent))
    evaluator.update(Result(panoptic=Panoptic(ids, segments)), record)
    return evaluator.compute()


def test_a_panoptic_set_of_one_stuff_class_says_so(caplog):
    scene(1, True, caplog)
    assert not caplog.text
    scene(1, False, caplog)
    assert "every annotated pixel is 'a', the others are ignored" in caplog.text


def test_predictions_of_classes_that_a_test_set_does_not_know_do_not_count(caplog):
    assert scene(1, True, caplog)["PQ-b"] == 0
    metrics = scene(1, True, caplog, absent=(1,))
    assert "PQ-b" not in metrics and metrics["PQ"] == metrics["PQ-a"]


def test_classes_of_one_name_have_rows_of_their_own():
    other = Polygons(((5, 0, 8, 0, 8, 4, 5, 4),))
    segments = (Segment(0, SQUARE), Segment(1, other))
    record = Record(1, (4, 8), (Frame(Path("a.jpg"), segments),))
    evaluator = InstanceEvaluator(metadata("part", "part"))
    mask = np.zeros((4, 8), np.uint8, order="F")
    mask[:, :4] = 1
    found = Instances(
        torch.ones(1), torch.zeros(1, dtype=torch.int64), masks.encode(mask[None]),
        torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
    )  # fmt: skip
    evaluator.update(Result(instances=found), record)
    metrics = evaluator.compute()
    assert metrics["AP-part (id 1)"] == pytest.approx(100)
    assert metrics["AP-part (id 2)"] == 0
    table = format_table(metrics)
    assert "part (id 1)" in table and "part (id 2)" in table
