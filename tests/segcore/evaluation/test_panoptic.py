"""Panoptic quality: worked by hand, a brute-force count, and vernier as panopticapi."""

import json
from pathlib import Path

import numpy as np
import perturbed
import pytest
import torch
import vernier.panoptic

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.panoptic import PanopticEvaluator, match, truth_map
from segcore.structures import (
    Frame,
    Metadata,
    Panoptic,
    PanopticSegment,
    PngId,
    Polygons,
    Record,
    Result,
    Segment,
)

VAL = "coco_panoptic_200/annotations/panoptic_val2017.json"


@pytest.fixture(scope="module")
def coco(shared_data):
    metadata, records = perturbed.load(shared_data, VAL)
    with_crowds = [r for r in records if any(s.crowd for s in r.frames[0].segments)]
    assert with_crowds
    return metadata, records[:6] + with_crowds[:3]


def case(truth, found, truth_classes, found_classes, crowd=()) -> list[list[float]]:
    """One row of pixels, ids from 1 in the order of the classes -> sums of two classes."""
    segments = {i: Segment(k, PngId(i), crowd=i in crowd) for i, k in enumerate(truth_classes, 1)}
    listed = [PanopticSegment(i, k, True, 1.0, 0) for i, k in enumerate(found_classes, 1)]
    pixels = np.array([found], np.int32)
    return match(
        np.array([truth]), segments, pixels, Panoptic(torch.from_numpy(pixels), listed), 2
    ).tolist()


@pytest.mark.parametrize(
    ("arguments", "sums"),  # sums: IoU, TP, FP, FN of class 0 and 1
    [
        (([1, 1, 1, 1], [1, 1, 1, 0], [0], [0]), [[0.75, 1, 0, 0], [0, 0, 0, 0]]),
        (([1, 1, 1, 1], [1, 1, 0, 0], [0], [0]), [[0, 0, 1, 1], [0, 0, 0, 0]]),  # .5 is too little
        (([1, 1], [1, 1], [0], [1]), [[0, 0, 0, 1], [0, 0, 1, 0]]),  # another class
        (([1, 1, 0, 0], [1, 1, 1, 1], [0], [0]), [[1, 1, 0, 0], [0, 0, 0, 0]]),  # void is free
        (([1, 0, 0], [1, 1, 1], [1], [0]), [[0, 0, 0, 0], [0, 0, 0, 1]]),  # most on void
        (([1, 0], [1, 1], [1], [0]), [[0, 0, 1, 0], [0, 0, 0, 1]]),  # half on void
        (([1, 1], [1, 1], [0], [0], [1]), [[0, 0, 0, 0], [0, 0, 0, 0]]),  # on a crowd
        (([1, 1], [1, 1], [0], [1], [1]), [[0, 0, 0, 0], [0, 0, 1, 0]]),  # a crowd of others
        (([1, 1], [0, 0], [0], [], [1]), [[0, 0, 0, 0], [0, 0, 0, 0]]),  # crowds are not missed
        (([1, 0, 2], [1, 1, 1], [0, 1], [0], [1]), [[0, 0, 0, 0], [0, 0, 0, 1]]),  # crowd + void
        (([1, 1], [0, 0], [0], []), [[0, 0, 0, 1], [0, 0, 0, 0]]),  # nothing found
        (([0, 0], [1, 1], [], [0]), [[0, 0, 0, 0], [0, 0, 0, 0]]),  # nothing annotated
        (([1, 1, 2, 2], [1, 1, 2, 2], [0, 0], [0, 0]), [[2, 2, 0, 0], [0, 0, 0, 0]]),
        (([1, 1], [1, 1], [0], [0, 0]), [[1, 1, 0, 0], [0, 0, 0, 0]]),  # listed, without pixels
        (([1, 1], [9, 9], [0], [0]), [[0, 0, 0, 1], [0, 0, 0, 0]]),  # pixels, not listed
    ],
)
def test_worked_by_hand(arguments, sums):
    assert case(*arguments) == sums


def test_numbers_from_sums():
    metadata = Metadata(
        "x", ("cat", "dog", "sky"), (1, 2, 3), (True, True, False), ((0, 0, 0),) * 3
    )
    evaluator = PanopticEvaluator(metadata)
    evaluator.parts = [
        np.array([[0.8, 1, 1, 0], [0, 0, 0, 0], [1.2, 1, 0, 0]]),
        np.array([[0.7, 1, 0, 1], [0, 0, 0, 0], [0.6, 1, 2, 0]]),  # another process
    ]
    results = evaluator.compute()
    cat, sky = 100 * 1.5 / 3, 100 * 1.8 / 3
    assert results["PQ-cat"] == pytest.approx(cat)
    assert results["PQ"] == pytest.approx((cat + sky) / 2)  # no dog anywhere: not in the mean
    assert (results["PQ_th"], results["PQ_st"]) == pytest.approx((cat, sky))
    assert results["SQ_th"] == pytest.approx(75)
    assert results["RQ_st"] == pytest.approx(100 * 2 / 3)
    assert "PQ-dog" not in results
    assert np.isnan(PanopticEvaluator(metadata).compute()["PQ"])


def test_equals_a_brute_force_count(coco):
    metadata, records = coco
    rng = np.random.default_rng(0)
    for record in records[:3]:
        truth, segments = truth_map(record)
        panoptic = perturbed.result(record, metadata, rng).panoptic
        assert panoptic is not None
        found = panoptic.map.numpy()
        expected = np.zeros((len(metadata.classes), 4))
        void = ~np.isin(truth, list(segments))
        matched = set()
        for i, s in segments.items():
            for p in panoptic.segments:
                a, b = truth == i, found == p.id
                iou = (a & b).sum() / ((a | b).sum() - (b & void).sum())
                if not s.crowd and s.category == p.category and iou > 0.5:
                    expected[s.category, :2] += iou, 1
                    matched |= {("truth", i), ("found", p.id)}
            expected[s.category, 3] += ("truth", i) not in matched and not s.crowd
        for p in panoptic.segments:
            crowd = [
                truth == i for i, s in segments.items() if s.crowd and s.category == p.category
            ]
            harmless = np.logical_or.reduce([void, *crowd[-1:]])
            if ("found", p.id) not in matched and harmless[found == p.id].mean() <= 0.5:
                expected[p.category, 2] += 1
        assert np.allclose(match(truth, segments, found, panoptic, len(expected)), expected)


def vernier_summary(metadata, records, results):
    """Strict mode: panopticapi's numbers."""
    truths, t_infos, founds, f_infos = {}, {}, {}, {}
    for n, (record, result) in enumerate(zip(records, results, strict=True)):
        ids, segments = truth_map(record)
        truths[n] = ids.astype(np.uint32)
        t_infos[n] = [
            {
                "id": i,
                "category_id": s.category,
                "iscrowd": int(s.crowd),
                "area": int((ids == i).sum()),
            }
            for i, s in segments.items()
        ]
        founds[n] = result.panoptic.map.numpy().astype(np.uint32)
        f_infos[n] = [{"id": s.id, "category_id": s.category} for s in result.panoptic.segments]
    categories = [
        {"id": k, "name": name, "isthing": int(metadata.is_thing[k])}
        for k, name in enumerate(metadata.classes)
    ]
    as_json = lambda infos: json.dumps(infos).encode()  # noqa: E731
    return vernier.panoptic.Evaluator(parity_mode="strict").evaluate(
        vernier.panoptic.Dataset.from_arrays(truths, as_json(t_infos), as_json(categories)),
        vernier.panoptic.Predictions.from_arrays(founds, as_json(f_infos)),
    )


@pytest.mark.parametrize("kind", ["perturbed", "perfect"])
def test_equals_vernier(coco, kind):
    metadata, records = coco
    rng = np.random.default_rng(1)
    results = [
        perturbed.result(r, metadata, rng)
        if kind == "perturbed"
        else perturbed.perfect(r, metadata)
        for r in records
    ]
    evaluator = PanopticEvaluator(metadata)
    for result, record in zip(results, records, strict=True):
        evaluator.update(result, record)
    summary, ours = vernier_summary(metadata, records, results), evaluator.compute()
    expected = {
        "PQ": summary.pq,
        "SQ": summary.sq,
        "RQ": summary.rq,
        "PQ_th": summary.pq_things,
        "SQ_th": summary.sq_things,
        "RQ_th": summary.rq_things,
        "PQ_st": summary.pq_stuff,
        "SQ_st": summary.sq_stuff,
        "RQ_st": summary.rq_stuff,
    }
    assert {k: ours[k] for k in expected} == pytest.approx(
        {k: 100 * v for k, v in expected.items()}, rel=1e-12
    )
    for k, stats in summary.per_class().items():
        if stats.n_tp + stats.n_fp + stats.n_fn:
            assert ours[f"PQ-{metadata.classes[k]}"] == pytest.approx(100 * stats.pq, rel=1e-12)
    assert (ours["PQ"] == pytest.approx(100)) == (kind == "perfect")


def test_own_files_of_panopticapi_are_perfect_against_themselves(shared_data):
    folder = "panopticapi_sample/sample_data/"
    metadata, records = perturbed.load(
        shared_data, folder + "panoptic_examples.json", folder + "input_images"
    )
    evaluator = PanopticEvaluator(metadata)
    for record in records:
        evaluator.update(perturbed.perfect(record, metadata), record)
    assert len(records) == 2
    assert evaluator.compute()["PQ"] == pytest.approx(100)
    assert evaluator.parts[0][:, 2:].sum() == 0


def test_masks_and_polygons_are_painted_first_ones_on_top():
    square = masks.encode(np.array([[1, 1, 0, 0], [1, 1, 0, 0]])[None])[0]
    inside = masks.encode(np.array([[1, 0, 0, 0], [0, 0, 0, 0]])[None])[0]
    segments = (
        Segment(1, masks.encode(np.ones((1, 2, 4)))[0], crowd=True),
        Segment(0, square),
        Segment(0, inside),  # covered altogether
        Segment(1, Polygons(((1, 0, 3, 0, 3, 2, 1, 2),))),
    )
    ids, kept = truth_map(Record(0, (2, 4), (Frame(Path("a.jpg"), segments),)))
    names = np.array(["", *(f"{s.category}{'c' * s.crowd}" for s in kept.values())])
    order = np.searchsorted(np.array([0, *kept]), ids)
    assert names[order].tolist() == [["0", "0", "1", "1c"]] * 2
    assert len(kept) == 3


def test_another_size_names_the_file(coco):
    metadata, records = coco
    panoptic = Panoptic(torch.zeros(3, 4, dtype=torch.int32), [])
    with pytest.raises(DataError, match=r"\.png.*\(3, 4\)"):
        PanopticEvaluator(metadata).update(Result(panoptic=panoptic), records[0])


def test_nothing_found_is_zero(coco):
    metadata, records = coco
    evaluator = PanopticEvaluator(metadata)
    evaluator.update(
        Result(panoptic=Panoptic(torch.zeros(records[0].size, dtype=torch.int32), [])), records[0]
    )
    assert evaluator.compute()["PQ"] == 0
