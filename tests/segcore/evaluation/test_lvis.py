"""LVIS's AP: against its rules counted one by one, its own package's numbers, and by hand."""

from pathlib import Path

import lvis_oracle
import numpy as np
import perturbed
import pytest

from segcore import masks
from segcore.evaluation.coco_ap import percent, summary
from segcore.evaluation.instance import InstanceEvaluator
from segcore.structures import Frame, Metadata, Record, Result, Segment

SIZE = (160, 200)
K = 6
FREQUENCIES = ("r", "c", "f", "f", "c", "r")
MANY = Metadata(
    "many",
    tuple("abcdef"),
    tuple(range(1, K + 1)),
    (True,) * K,
    ((0, 0, 0),) * K,
    frequencies=FREQUENCIES,
)
# what lvis 0.5.3 says of the same data (predictions without boxes, as detectron2 gives them)
PUBLISHED = {
    300: {
        "AP": 18.611036057818232,
        "AP50": 33.47118869396096,
        "AP75": 18.385195662423385,
        "APs": 12.416352349520666,
        "APm": 25.1973911676882,
        "APl": 9.467821782178216,
        "APr": 18.943363979255064,
        "APc": 11.526952695269527,
        "APf": 25.36279149893011,
        "AR300": 25.932405800826853,
        "APb": 19.561956745125062,
    },
    4: {  # its LVISResults(max_dets=4)
        "AP": 12.821408926606944,
        "AP50": 24.421656451359418,
        "AP75": 11.732673267326732,
        "APs": 10.246149614961496,
        "APm": 14.77997799779978,
        "APl": 9.467821782178216,
        "APr": 15.006600660066002,
        "APc": 8.052157001414429,
        "APf": 15.405469118340404,
        "AR4": 17.15407886460518,
        "APb": 14.038661008958037,
    },
}


def disc(y: float, x: float, r: float) -> np.ndarray:
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= r * r


def federated(seed: int) -> list[tuple[Record, Result]]:
    """Discs of every class and size, found more or less; classes that nobody looked for."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(12):
        places = rng.uniform((10, 10), (150, 190), (6, 2))
        radii, classes = rng.choice([4, 9, 20, 60], 6), rng.integers(0, K, 6)
        truth = [disc(*place, r) for place, r in zip(places, radii, strict=True)]
        found, labels = [], []
        for place, r, k in zip(places, radii, classes, strict=True):
            for _ in range(rng.integers(0, 3)):
                found.append(disc(*(place + rng.normal(0, r / 6, 2)), r * rng.uniform(0.8, 1.2)))
                labels.append(int(k) if rng.random() < 0.7 else int(rng.integers(K)))
        absent = sorted(set(range(K)) - set(classes.tolist()))
        segments = tuple(
            Segment(int(k), rle)
            for k, rle in zip(classes, masks.encode(np.stack(truth)), strict=True)
        )
        record = Record(
            number,
            SIZE,
            (Frame(Path("a.jpg"), segments),),
            negatives=tuple(absent[::2]),
            not_exhaustive=(int(classes[0]),),
        )
        scores = rng.integers(1, 12, len(found)) / 12  # some are equal
        pairs.append((record, Result(instances=perturbed.instances(found, labels, scores))))
    return pairs


def evaluated(pairs, *, kinds=("lvis",), metadata=MANY, **options) -> InstanceEvaluator:
    evaluator = InstanceEvaluator(metadata, kinds=kinds, **options)
    for record, result in pairs:
        evaluator.update(result, record)
    return evaluator


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_rules_counted_one_by_one(seed):
    evaluator = evaluated(federated(seed), kinds=("lvis", "boundary"), max_dets=7)
    ours = evaluator.compute()
    for kind, prefix in (("segm", ""), ("boundary", "boundary ")):
        table = lvis_oracle.precision(evaluator.parts, K, kind, max_dets=7)
        theirs = summary(table)
        for letter in "rcf":
            theirs[f"AP{letter}"] = percent(table[:, :, [f == letter for f in FREQUENCIES], 0])
        assert {n: ours[prefix + n] for n in theirs} == pytest.approx(theirs, abs=1e-9, nan_ok=True)
        assert 5 < ours[prefix + "AP"] < 95
    boxes = lvis_oracle.precision(evaluator.parts, K, "bbox", max_dets=7)
    assert ours["APb"] == pytest.approx(percent(boxes[..., 0]), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("max_dets", [300, 4])
def test_equals_the_lvis_package_to_the_last_bit(max_dets):
    assert evaluated(federated(0), max_dets=max_dets).compute() == PUBLISHED[max_dets]


# ---------------------------------------------------------------- by hand


def score(truth, found, *, negatives=(), not_exhaustive=(), **options) -> dict[str, float]:
    """Of one image; truth is (class, mask), what is found (class, mask, score)."""
    segments = tuple(Segment(k, masks.encode(mask[None])[0]) for k, mask in truth)
    frame = Frame(Path("a.jpg"), segments)
    record = Record(0, SIZE, (frame,), tuple(negatives), tuple(not_exhaustive))
    labels, shapes, scores = [list(column) for column in zip(*found, strict=True)]
    pairs = [(record, Result(instances=perturbed.instances(shapes, labels, scores)))]
    return evaluated(pairs, **options).compute()


A, B = disc(50, 50, 30), disc(110, 150, 30)


def test_a_class_that_nobody_looked_for_does_not_count():
    there = [(2, A)]
    # the surplus is better scored: where it counts, precision is one half
    assert score(there, [(3, B, 0.9), (2, A, 0.8)])["AP"] == pytest.approx(100)
    assert score(there, [(2, B, 0.9), (2, A, 0.8)])["AP"] == pytest.approx(50)


def test_a_class_known_to_be_absent_counts():
    truth = [(2, A), (3, B)]
    pairs = []
    for number, (segments, negatives) in enumerate([(truth, ()), ([], (3,))]):
        shapes = tuple(Segment(k, masks.encode(mask[None])[0]) for k, mask in segments)
        record = Record(number, SIZE, (Frame(Path("a.jpg"), shapes),), negatives)
        found = [(2, A, 0.8), (3, B, 0.8)] if segments else [(2, A, 0.9), (3, B, 0.9)]
        labels, masks_, scores = [list(column) for column in zip(*found, strict=True)]
        pairs.append((record, Result(instances=perturbed.instances(masks_, labels, scores))))
    results = evaluated(pairs).compute()
    assert results["AP"] == pytest.approx(75)  # 100 of class 2, 50 of class 3
    assert results["APf"] == pytest.approx(75)
    assert np.isnan(results["APr"])


def test_surplus_of_a_class_not_fully_annotated_is_no_mistake():
    found = [(2, B, 0.9), (2, A, 0.8)]
    assert score([(2, A)], found, not_exhaustive=[2])["AP"] == pytest.approx(100)
    assert score([(2, A)], found, not_exhaustive=[3])["AP"] == pytest.approx(50)


def test_contradictions_change_nothing():
    """Both present and absent: present. Absent, and not all of it annotated: nobody knows."""
    found = [(2, B, 0.9), (3, B, 0.85), (2, A, 0.8)]
    odd = score([(2, A)], found, negatives=[2, 3], not_exhaustive=[3])
    assert odd == pytest.approx(score([(2, A)], found), nan_ok=True)


def test_data_that_says_nothing_of_absence_warns(caplog):
    score([(2, A)], [(2, A, 0.9)])
    assert "many: no image says which classes it lacks" in caplog.text
    caplog.clear()
    score([(2, A)], [(2, A, 0.9)], negatives=[3])
    assert not caplog.text


def test_the_best_of_an_image_count_over_all_classes():
    found = [(0, A, 0.9), (1, A, 0.8), (2, A, 0.7)]
    assert score([(2, A)], found, max_dets=3)["AP"] == pytest.approx(100)
    assert score([(2, A)], found, max_dets=2)["AP"] == 0


def test_without_frequencies_there_are_numbers_of_classes():
    plain = Metadata("plain", MANY.classes, MANY.dataset_ids, MANY.is_thing, MANY.colors)
    results = score([(2, A)], [(2, A, 0.9)], metadata=plain)
    assert results["AP-c"] == pytest.approx(100)
    assert "APr" not in results


def test_classes_keep_their_frequencies_in_a_checkpoint():
    assert Metadata.from_dict(MANY.to_dict()) == MANY
    assert MANY.as_entities().frequencies == ()
