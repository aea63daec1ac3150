"""AP: against pycocotools, worked by hand, and how little is kept of an image."""

import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import coco_oracle
import numpy as np
import perturbed
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation import coco_ap, instance
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.writers import coco_json
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Record, Result, Rle, Segment

VAL = "coco_panoptic_200/annotations/panoptic_val2017.json"
ONE = Metadata("one", ("cell",), (1,), (True,), ((0, 0, 0),))


@pytest.fixture(scope="module")
def coco(shared_data):
    metadata, records = perturbed.load(shared_data, VAL)
    with_crowds = [r for r in records if any(s.crowd for s in r.frames[0].segments)]
    return metadata, records[:8] + with_crowds[:3]


@pytest.fixture(scope="module")
def nuclei(shared_data):
    folder = "nuclei_dsb2018_cc0/"
    metadata, records = perturbed.load(
        shared_data, folder + "annotations/instances_val.json", folder + "images/val"
    )
    return metadata, records[:5]


@pytest.fixture(scope="module")
def polygons(shared_data):
    folder = "coco_polygons_mini/"
    metadata, records = perturbed.load(shared_data, folder + "instances.json", folder + "images")
    with_crowds = [r for r in records if any(s.crowd for s in r.frames[0].segments)]
    return metadata, records[:5] + with_crowds[:2]


def run(metadata, records, *, make=perturbed.result, **options) -> dict[str, float]:
    rng = np.random.default_rng(0)
    evaluator = InstanceEvaluator(metadata, **options)
    for record in records:
        evaluator.update(
            make(record, metadata, rng) if make is perturbed.result else make(record, metadata),
            record,
        )
    return evaluator.compute()


@pytest.mark.parametrize("boundary", [False, True])
@pytest.mark.parametrize("data", ["coco", "nuclei", "polygons"])
def test_equals_pycocotools_to_the_last_bit(data, boundary, request, monkeypatch):
    metadata, records = request.getfixturevalue(data)
    records = records[-2:] if boundary else records  # the slow one decodes every mask
    kinds = ("boundary",) if boundary else ("instance",)
    ours = run(metadata, records, kinds=kinds, max_dets=40)
    monkeypatch.setattr(instance, "coco_tables", coco_oracle.coco_tables)
    theirs = run(metadata, records, kinds=kinds, max_dets=40)
    assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
    assert 1 < ours["boundary AP" if boundary else "AP"] < 99


def test_equals_pycocotools_from_files(nuclei, shared_data):
    """Nothing of ours between the annotation file and pycocotools."""
    metadata, records = nuclei
    rng = np.random.default_rng(0)
    evaluator = InstanceEvaluator(metadata)
    truth = COCO(str(shared_data / "nuclei_dsb2018_cc0/annotations/instances_val.json"))
    rows = []
    for record in records:
        result = perturbed.result(record, metadata, rng)
        evaluator.update(result, record)
        found = result.instances
        assert found is not None
        for rle, score in zip(found.masks, found.scores.tolist(), strict=True):
            rows.append(
                {"image_id": record.id, "category_id": 1, "segmentation": rle, "score": score}
            )
    evaluation = COCOeval(truth, truth.loadRes(rows), "segm")
    evaluation.params.imgIds = [record.id for record in records]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = evaluator.compute()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    theirs = [100 * value if value > -1 else np.nan for value in evaluation.stats[:6]]
    assert [ours[name] for name in names] == pytest.approx(theirs, nan_ok=True)
    assert ours["AR100"] / 100 == pytest.approx(evaluation.stats[8])
    assert ours["AP-nucleus"] == ours["AP"]


@pytest.mark.parametrize("data", ["coco", "nuclei", "polygons"])
def test_ground_truth_against_itself_is_perfect(data, request):
    metadata, records = request.getfixturevalue(data)
    if data == "polygons":  # objects overlap in it: what is seen of them is less than they are
        records = [r for r in records if len(r.frames[0].segments) < 4] or records[:1]
        results = run(metadata, records, make=whole)
    else:
        results = run(metadata, records, make=perturbed.perfect)
    assert results["AP"] == pytest.approx(100)
    assert results["APb"] == pytest.approx(100)
    classes = [v for name, v in results.items() if name.startswith("AP-")]
    assert classes
    assert classes == pytest.approx([100] * len(classes))


def whole(record: Record, metadata: Metadata) -> Result:
    """Every object in full, under others too; boxes are those of the polygons."""
    kept = [s for s in record.frames[0].segments if not s.crowd]
    shapes = [masks.decode(to_rle(s, record.frames[0], record.size)) for s in kept]
    found = perturbed.instances(shapes, [s.category for s in kept], np.ones(len(kept)))
    points = [np.concatenate([np.reshape(r, (-1, 2)) for r in s.shape.rings]) for s in kept]
    boxes = torch.tensor(np.array([[*xy.min(0), *xy.max(0)] for xy in points]))
    return Result(instances=replace(found, boxes=boxes))


def test_boxes_equal_pycocotools_from_files(shared_data):
    """A detector's own boxes against those of the file, which reach as far as polygons do."""
    folder = shared_data / "coco_polygons_mini"
    metadata, records = perturbed.load(
        shared_data, "coco_polygons_mini/instances.json", "coco_polygons_mini/images"
    )
    records = [r for r in records if not any(s.crowd for s in r.frames[0].segments)][:6]
    rng = np.random.default_rng(0)
    evaluator, rows = InstanceEvaluator(metadata), []
    for record in records:
        found = whole(record, metadata).instances
        assert found is not None
        boxes = found.boxes + torch.from_numpy(rng.normal(0, 3, found.boxes.shape))
        found = replace(found, boxes=boxes, scores=torch.from_numpy(rng.random(len(boxes))))
        evaluator.update(Result(instances=found), record)
        rows += coco_json(Result(instances=found), record.id, metadata)
    for row, score in zip(
        rows, [s for p in evaluator.parts for *_, s in p.predictions], strict=True
    ):
        row["score"] = score  # unrounded
        del row["segmentation"]
    truth = COCO(str(folder / "instances.json"))
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.params.imgIds = [record.id for record in records]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    results = evaluator.compute()
    assert results["APb"] / 100 == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert 20 < results["APb"] < 90
    assert results["AP"] == pytest.approx(100)


# ---------------------------------------------------------------- by hand


def block(columns: range, size=(10, 40)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[:, columns] = True
    return mask


def record_of(shapes: list[np.ndarray], crowd=(), size=(10, 40)) -> Record:
    segments = tuple(
        Segment(0, rle, crowd=i in crowd)
        for i, rle in enumerate(masks.encode(np.stack(shapes)) if shapes else [])
    )
    return Record(0, size, (Frame(Path("a.jpg"), segments),))


def score(truth: list[np.ndarray], found: list[np.ndarray], scores, crowd=(), **options):
    evaluator = InstanceEvaluator(ONE, **options)
    evaluator.update(
        Result(instances=perturbed.instances(found, [0] * len(found), scores)),
        record_of(truth, crowd),
    )
    return evaluator.compute()


def test_worked_by_hand():
    a, b, c = block(range(10)), block(range(20, 30)), block(range(30, 40))
    assert score([a, b], [a, b], [0.9, 0.8])["AP"] == pytest.approx(100)
    # one of two found, nothing wrong: precision 1 up to recall .5, at 51 of 101 points
    assert score([a, b], [a], [0.9])["AP"] == pytest.approx(100 * 51 / 101)
    # a better-scored mistake halves the precision
    assert score([a], [c, a], [0.9, 0.8])["AP"] == pytest.approx(50)
    assert score([a], [a, c], [0.9, 0.8])["AP"] == pytest.approx(100)
    # IoU .8 passes 7 of the ten thresholds .5 ... .8
    results = score([a], [block(range(8))], [0.9])
    assert results["AP"] == pytest.approx(70)
    assert (results["AP50"], results["AP75"]) == pytest.approx((100, 100))
    assert results["APs"] == pytest.approx(70)  # 100 pixels are small
    assert np.isnan(results["APl"])


def test_crowds_are_neither_missed_nor_hits():
    a, b = block(range(10)), block(range(20, 40))
    inside = block(range(22, 27))
    assert score([a, b], [a], [0.9], crowd=[1])["AP"] == pytest.approx(100)
    assert score([a, b], [inside, a], [0.9, 0.8], crowd=[1])["AP"] == pytest.approx(100)
    assert score([a, b], [inside, a], [0.9, 0.8])["AP"] < 50


def test_only_the_best_count_when_there_are_too_many():
    a, b = block(range(10)), block(range(20, 30))
    assert score([a], [b, a], [0.9, 0.8], max_dets=1)["AP"] == 0
    assert score([a], [b, a], [0.9, 0.95], max_dets=1)["AP"] == pytest.approx(100)
    assert "AR1" in score([a], [a], [0.9], max_dets=1)


def test_images_with_more_objects_than_count_are_warned_of(caplog):
    a, b = block(range(10)), block(range(20, 30))
    score([a, b], [a, b], [0.9, 0.8], max_dets=1)
    assert "one: 1 of 1 images have more than 1 objects of a class" in caplog.text
    assert "TEST.AP_DETECTIONS" in caplog.text
    caplog.clear()
    assert score([a, b], [a, b], [0.9, 0.8], max_dets=2)["AR2"] == pytest.approx(100)
    score([a, b], [a, b], [0.9, 0.8], crowd=[1], max_dets=1)
    assert not caplog.text


@pytest.mark.parametrize("tables", [coco_ap.coco_tables, coco_oracle.coco_tables])
@pytest.mark.parametrize(("kind", "name"), [("instance", "AP"), ("boundary", "boundary AP")])
def test_nothing(tables, kind, name, monkeypatch):
    monkeypatch.setattr(instance, "coco_tables", tables)
    a, options = block(range(10)), {"kinds": (kind,)}
    assert score([a], [], [], **options)[name] == 0
    assert np.isnan(score([], [a], [0.5], **options)[name])
    assert np.isnan(score([], [], [], **options)[name])
    assert np.isnan(InstanceEvaluator(ONE, **options).compute()[name])


def test_area_of_the_file_decides_what_is_small():
    record = record_of([block(range(10))])
    frame = record.frames[0]
    large = replace(frame, segments=(replace(frame.segments[0], area=1e5),))
    evaluator = InstanceEvaluator(ONE)
    evaluator.update(Result(instances=perturbed.nothing()), replace(record, frames=(large,)))
    results = evaluator.compute()
    assert results["APl"] == 0
    assert np.isnan(results["APs"])


def test_stuff_is_not_asked_for(coco):
    metadata, records = coco
    evaluator = InstanceEvaluator(metadata)
    for record in records:
        evaluator.update(Result(instances=perturbed.nothing()), record)
    classes = [name.removeprefix("AP-") for name in evaluator.compute() if name.startswith("AP-")]
    assert classes
    assert all(metadata.is_thing[metadata.classes.index(name)] for name in classes)


def test_another_size_names_the_file():
    found = perturbed.instances([np.ones((3, 3), bool)], [0], [0.5])
    with pytest.raises(DataError, match=r"a\.jpg.*\(3, 3\).*\(10, 40\)"):
        InstanceEvaluator(ONE).update(Result(instances=found), record_of([block(range(3))]))


def test_an_unknown_kind_raises():
    with pytest.raises(ValueError, match="instance, boundary"):
        InstanceEvaluator(ONE, kinds=("keypoints",))


def test_both_kinds_at_once_equal_each_alone(nuclei):
    metadata, records = nuclei
    both = run(metadata, records, kinds=("instance", "boundary"))
    alone = [run(metadata, records, kinds=(kind,)) for kind in ("instance", "boundary")]
    assert both == pytest.approx(alone[0] | alone[1], rel=0, abs=0, nan_ok=True)
    assert list(both) == [*alone[0], *alone[1]]


def test_masks_of_ids_equal_one_mask_at_a_time():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (9, 1), (13, 21)):
        for _ in range(5):
            ids = rng.integers(0, 4, shape).astype(np.int32)
            expected = [masks.encode((ids == n)[None])[0] for n in (0, 1, 3, 9)]
            assert masks.encode_ids(ids, [0, 1, 3, 9]) == expected


def test_parts_of_two_processes_are_one_list(nuclei):
    metadata, records = nuclei
    whole_set = run(metadata, records, make=perturbed.perfect)
    halves = [InstanceEvaluator(metadata) for _ in range(2)]
    for i, record in enumerate(records):
        halves[i % 2].update(perturbed.perfect(record, metadata), record)
    halves[0].parts += pickle.loads(pickle.dumps(halves[1].parts))
    assert halves[0].compute() == pytest.approx(whole_set, nan_ok=True)


@pytest.mark.slow
def test_only_masks_are_kept_of_two_thousand_images():
    rng = np.random.default_rng(0)
    size = (480, 640)
    yy, xx = np.mgrid[: size[0], : size[1]]
    shapes: list[Rle] = []
    for _ in range(100):
        y, x, r = rng.integers(60, 420), rng.integers(60, 580), rng.integers(10, 60)
        shapes += masks.encode(((yy - y) ** 2 + (xx - x) ** 2 < r * r)[None])
    text = sum(len(rle["counts"]) for rle in shapes)
    evaluator = InstanceEvaluator(ONE)
    record = Record(0, size, (Frame(Path("a.jpg"), tuple(Segment(0, r) for r in shapes[:20])),))
    tracemalloc.start()
    for _ in range(2000):
        copies: list[Rle] = [
            {"size": list(r["size"]), "counts": bytes(bytearray(r["counts"]))} for r in shapes
        ]
        found = perturbed.nothing()
        found = replace(
            found,
            scores=torch.rand(100),
            labels=torch.zeros(100, dtype=torch.int64),
            masks=copies,
            boxes=torch.zeros(100, 4),
        )
        evaluator.update(Result(instances=found), record)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # a mask's text, and at most half a kilobyte of Python around each
    assert held < 2000 * (text + 100 * 512)
    assert peak - held < 50e6  # nothing of an image's size, let alone 100 of them
