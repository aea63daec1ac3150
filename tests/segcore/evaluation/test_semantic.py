"""Mean IoU: worked by hand, against vernier, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import perturbed
import pytest
import torch
import vernier.semantic
from PIL import Image

from segcore.errors import DataError
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.labels import lookup, semantic_map
from segcore.structures import Frame, Metadata, Record, Result

TWO = Metadata(
    "two", ("sky", "sea", "land"), (1, 2, 3), (False,) * 3, ((0, 0, 0),) * 3, ignore_label=255
)


def record_of(tmp_path: Path, labels: list[list[int]], name: str = "a.png") -> Record:
    pixels = np.array(labels, np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    return Record(0, pixels.shape, (Frame(tmp_path / "a.jpg", semantic=tmp_path / name),))


def found(labels: list[list[int]]) -> Result:
    return Result(semantic=torch.tensor(labels, dtype=torch.uint8))


def test_worked_by_hand(tmp_path):
    evaluator = SemanticEvaluator(TWO)
    record = record_of(tmp_path, [[0, 0, 0, 0], [1, 1, 255, 255]])
    evaluator.update(found([[0, 0, 0, 1], [1, 1, 2, 2]]), record)  # land only where nobody looks
    results = evaluator.compute()
    assert results == pytest.approx(
        {
            "mIoU": 100 * (3 / 4 + 2 / 3) / 2,
            "fwIoU": 100 * (3 / 4 * 4 / 6 + 2 / 3 * 2 / 6),
            "mACC": 100 * (3 / 4 + 1) / 2,
            "pACC": 100 * 5 / 6,
            "IoU-sky": 75,
            "IoU-sea": 100 * 2 / 3,
        }
    )


def test_a_class_without_ground_truth_counts_only_against_others(tmp_path):
    evaluator = SemanticEvaluator(TWO)
    evaluator.update(found([[0, 2]]), record_of(tmp_path, [[0, 0]]))
    assert evaluator.compute()["mIoU"] == 50
    assert "IoU-land" not in evaluator.compute()


def test_no_ground_truth_at_all_is_no_number(tmp_path):
    evaluator = SemanticEvaluator(TWO)
    assert np.isnan(evaluator.compute()["mIoU"])
    evaluator.update(found([[0, 2]]), record_of(tmp_path, [[255, 255]]))
    assert np.isnan(list(evaluator.compute().values())).all()


def test_another_size_names_the_file(tmp_path):
    record = record_of(tmp_path, [[0, 0]], "label.png")
    with pytest.raises(DataError, match=r"label\.png.*\(1, 2\).*\(2, 1\)"):
        SemanticEvaluator(TWO).update(found([[0], [0]]), record)


def test_parts_of_two_processes_add_up(tmp_path):
    record = record_of(tmp_path, [[0, 1, 1]])
    both, one, two = (SemanticEvaluator(TWO) for _ in range(3))
    for evaluator in (both, one):
        evaluator.update(found([[0, 1, 2]]), record)
    for evaluator in (both, two):
        evaluator.update(found([[1, 1, 1]]), record)
    one.parts = one.parts + two.parts
    assert one.compute() == both.compute()


@pytest.mark.parametrize("kind", ["panoptic", "camvid"])
def test_equals_vernier(shared_data, tmp_path, kind):
    rng = np.random.default_rng(3)
    if kind == "panoptic":
        metadata, records = perturbed.load(
            shared_data, "coco_panoptic_200/annotations/panoptic_val2017.json"
        )
        records = records[:8]
        results = [perturbed.result(r, metadata, rng).semantic for r in records]
    else:
        folder = shared_data / "camvid_480x360"
        classes = json.loads((folder / "classes.json").read_text())
        names = tuple(str(c) for c in classes["classes"])
        metadata = Metadata("camvid", names, tuple(range(11)), (False,) * 11, ((0, 0, 0),) * 11, 11)
        files = sorted((folder / "labels/test").iterdir())[:4]
        records = [Record(i, (360, 480), (Frame(f, semantic=f),)) for i, f in enumerate(files)]
        results = [torch.from_numpy(rng.integers(0, 11, (360, 480))) for _ in records]
    evaluator = SemanticEvaluator(metadata)
    truths, founds = {}, {}
    for i, (record, semantic) in enumerate(zip(records, results, strict=True)):
        assert semantic is not None
        evaluator.update(Result(semantic=semantic), record)
        truth = semantic_map(record.frames[0], metadata)
        truths[i] = np.where(truth < 0, 255, truth).astype(np.uint8)
        founds[i] = semantic.numpy().astype(np.uint8)
    K = len(metadata.classes)
    summary = vernier.semantic.Evaluator(parity_mode="strict").evaluate(
        vernier.semantic.Dataset.from_arrays(truths, K, ignore_label=255),
        vernier.semantic.Predictions.from_arrays(founds),
    )
    ours = evaluator.compute()
    assert ours["pACC"] == pytest.approx(100 * summary.pixel_accuracy)
    assert ours["fwIoU"] == pytest.approx(100 * summary.fwiou)
    expected = {k: 100 * c.iou for k, c in summary.per_class().items()}
    for k, name in enumerate(metadata.classes):
        if f"IoU-{name}" in ours:
            assert ours[f"IoU-{name}"] == pytest.approx(expected[k])
    assert ours["mIoU"] == pytest.approx(
        np.mean([v for name, v in ours.items() if name.startswith("IoU-")])
    )


def test_ground_truth_against_itself_is_perfect(shared_data):
    metadata, records = perturbed.load(
        shared_data, "coco_panoptic_200/annotations/panoptic_val2017.json"
    )
    evaluator = SemanticEvaluator(metadata)
    for record in records[:8]:
        evaluator.update(perturbed.perfect(record, metadata), record)
    results = evaluator.compute()
    assert set(results.values()) == {100.0}
    assert len(results) > 20


def test_wide_panoptic_ids_are_looked_up(tmp_path):
    assert lookup(np.array([[0, 16777215, 7]]), {16777215: 4, 3: 1}).tolist() == [[-1, 4, -1]]
