"""Metrics against ground truth itself, hand-worked cases, and pycocotools."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segcore import masks
from segcore.data.catalog import load_dataset
from segcore.errors import DataError
from segcore.evaluation.boundary import boundary
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator, match, truth_map
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.structures import (
    Instances,
    Panoptic,
    PanopticSegment,
    PngId,
    Result,
    Segment,
)
from segcore.visualize import draw, ground_truth


@pytest.fixture(scope="module")
def coco(shared_data):
    path = shared_data / "coco_panoptic_200/annotations/panoptic_val2017.json"
    metadata, records = load_dataset(str(path), Path())
    return metadata, records[:12]


def instances_of(record, metadata, scores=None):
    ids, segments = truth_map(record)
    things = [s for s in segments.items() if metadata.is_thing[s[1].category] and not s[1].crowd]
    rles = masks.encode(np.stack([ids == i for i, _ in things])) if things else []
    labels = torch.tensor([s.category for _, s in things], dtype=torch.int64)
    scores = torch.ones(len(rles)) if scores is None else scores
    return Instances(scores, labels, rles, torch.zeros(len(rles), 4))


def test_ground_truth_against_itself_is_perfect(coco):
    metadata, records = coco
    panoptic, semantic = PanopticEvaluator(metadata), SemanticEvaluator(metadata)
    instance = InstanceEvaluator(metadata)
    edges = InstanceEvaluator(metadata, boundary=True)
    for record in records:
        truth = ground_truth(record, metadata)
        classes = masks.semantic_map(record.frames[0], metadata)
        truth.semantic = torch.from_numpy(np.maximum(classes, 0))
        truth.instances = instances_of(record, metadata)
        for evaluator in (panoptic, semantic, instance, edges):
            evaluator.update(truth, record)
    assert panoptic.compute()["PQ"] == pytest.approx(100)
    assert semantic.compute()["mIoU"] == pytest.approx(100)
    assert instance.compute()["AP"] == pytest.approx(100)
    assert edges.compute()["boundary AP"] == pytest.approx(100)
    assert draw(np.zeros((*record.size, 3), np.uint8), truth, metadata).any()


def panoptic_case(truth, found, truth_classes, found_classes, crowd=()):
    segments = {i: Segment(k, PngId(i), crowd=i in crowd) for i, k in enumerate(truth_classes, 1)}
    listed = [PanopticSegment(i, k, True, 1.0, 0) for i, k in enumerate(found_classes, 1)]
    found = np.array(found)
    return match(np.array(truth), segments, found, Panoptic(torch.from_numpy(found), listed), 2)


def test_panoptic_cases_worked_by_hand():
    # 3 of 4 pixels shared, union 4: IoU .75
    assert panoptic_case([[1, 1, 1, 1]], [[1, 1, 1, 0]], [0], [0])[0].tolist() == [0.75, 1, 0, 0]
    # exactly .5 does not match
    assert panoptic_case([[1, 1, 1, 1]], [[1, 1, 0, 0]], [0], [0])[0].tolist() == [0, 0, 1, 1]
    # another class: a false positive there, a false negative here
    sums = panoptic_case([[1, 1]], [[1, 1]], [0], [1])
    assert sums.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    # unannotated pixels do not count in the union
    assert panoptic_case([[1, 1, 0, 0]], [[1, 1, 1, 1]], [0], [0])[0].tolist() == [1, 1, 0, 0]
    # mostly on unannotated area: no error; half there: one
    assert panoptic_case([[1, 0, 0]], [[1, 1, 1]], [1], [0])[0].tolist() == [0, 0, 0, 0]
    assert panoptic_case([[1, 0]], [[1, 1]], [1], [0])[0].tolist() == [0, 0, 1, 0]
    # crowds neither match nor are missed, and excuse what lies on them
    assert panoptic_case([[1, 1]], [[1, 1]], [0], [0], crowd=[1]).sum() == 0
    assert panoptic_case([[1, 1]], [[0, 0]], [0], [], crowd=[1]).sum() == 0


def test_panoptic_equals_a_brute_force_count(coco):
    metadata, records = coco
    rng = np.random.default_rng(0)
    for record in records[:4]:
        ids, segments = truth_map(record)
        shifted = np.roll(ids, rng.integers(-9, 10, 2), (0, 1))
        kept = [i for i in segments if (shifted == i).any()]
        found = np.zeros(ids.shape, np.int32)
        listed = []
        for n, i in enumerate(kept, 1):
            found[shifted == i] = n
            listed.append(PanopticSegment(n, segments[i].category, True, 1.0, 0))
        panoptic = Panoptic(torch.from_numpy(found), listed)
        sums = match(ids, segments, found, panoptic, len(metadata.classes))
        iou, pairs = 0.0, 0
        void = ~np.isin(ids, list(segments))
        for i, s in segments.items():
            for p in listed:
                if s.crowd or s.category != p.category:
                    continue
                a, b = ids == i, found == p.id
                union = (a | b).sum() - (b & void).sum()
                if (a & b).sum() / union > 0.5:
                    iou, pairs = iou + (a & b).sum() / union, pairs + 1
        assert sums[:, 0].sum() == pytest.approx(iou)
        assert sums[:, 1].sum() == pairs


def test_semantic_counts_only_what_is_annotated(coco):
    metadata, records = coco
    evaluator = SemanticEvaluator(metadata)
    truth = masks.semantic_map(records[0].frames[0], metadata)
    wrong = np.where(truth < 0, 5, truth)
    evaluator.update(Result(semantic=torch.from_numpy(wrong)), records[0])
    assert evaluator.compute()["mIoU"] == 100
    with pytest.raises(DataError, match="same height and width"):
        evaluator.update(Result(semantic=torch.zeros(3, 3)), records[0])


def test_instances_lose_where_they_should(coco):
    metadata, records = coco
    evaluator = InstanceEvaluator(metadata)
    for record in records:
        found = instances_of(record, metadata)
        half = found.masks[: len(found.masks) // 2]
        n = len(half)
        evaluator.update(
            Result(instances=Instances(found.scores[:n], found.labels[:n], half, found.boxes[:n])),
            record,
        )
    results = evaluator.compute()
    assert 0 < results["AP"] < 90
    assert results["AP"] <= results["AP50"]


def test_nothing_found_is_zero(coco):
    metadata, records = coco
    evaluator = InstanceEvaluator(metadata)
    nothing = Instances(torch.zeros(0), torch.zeros(0, dtype=torch.int64), [], torch.zeros(0, 4))
    evaluator.update(Result(instances=nothing), records[0])
    assert evaluator.compute()["AP"] == 0


def test_boundary_equals_a_brute_force_band():
    rng = np.random.default_rng(1)
    mask = np.zeros((40, 50), bool)
    mask[5:30, 0:35] = True
    mask[rng.integers(0, 40, 20), rng.integers(0, 50, 20)] = False
    distance = max(1, round(0.05 * np.hypot(40, 50)))
    padded = np.pad(mask, distance)
    band = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        window = padded[y : y + 2 * distance + 1, x : x + 2 * distance + 1]
        band[y, x] = not window.all()
    assert np.array_equal(masks.decode(boundary(masks.encode(mask[None])[0], 0.05)), band)
