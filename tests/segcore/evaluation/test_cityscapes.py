"""The official instance AP of Cityscapes: against cityscapesScripts on files, and by hand."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import perturbed
import pytest
from PIL import Image

from segcore.data.catalog import Catalog
from segcore.errors import DataError
from segcore.evaluation import cityscapes
from segcore.evaluation.cityscapes import OBJECTS, CityscapesEvaluator
from segcore.structures import Frame, Metadata, Record, Result

SIZE = (120, 200)
CAR, PERSON, CARAVAN, ROAD, SKY, STATIC = 26, 24, 29, 7, 23, 4
CITY = Metadata("city", tuple("abcdefgh"), OBJECTS, (True,) * 8, ((0, 0, 0),) * 8)


def write_ids(folder: Path, name: str, ids: np.ndarray) -> Path:
    path = folder / f"{name}_gtFine_instanceIds.png"
    Image.fromarray(ids.astype(np.uint16)).save(path)
    return path


def scene(rng: np.random.Generator) -> np.ndarray:
    """(H, W) ids: objects of every size, groups, ignored regions and ignored objects."""
    ids = np.full(SIZE, ROAD)
    ids[:20] = SKY
    ids[100:] = rng.choice([STATIC, 0, ROAD])
    for number in range(14):
        h, w = rng.integers(4, 40, 2)
        y, x = rng.integers(0, SIZE[0] - h), rng.integers(0, SIZE[1] - w)
        label = int(rng.choice([*OBJECTS, CARAVAN]))
        kind = rng.random()
        ids[y : y + h, x : x + w] = label if kind < 0.2 else label * 1000 + number
    return ids


def predicted(ids: np.ndarray, rng: np.random.Generator) -> list[tuple[np.ndarray, int, float]]:
    """Objects moved, cut, found twice, of another class, or where nothing is."""
    found = []
    for number in np.unique(ids):
        if number >= 1000 or number in (*OBJECTS, STATIC):
            for _ in range(rng.integers(0, 4)):
                mask = np.roll(ids == number, rng.integers(-3, 4, 2), (0, 1))
                label = number // 1000 if number >= 1000 else number
                known = label in OBJECTS and rng.random() < 0.8
                mask &= rng.random(SIZE) < rng.choice([0.6, 0.9, 1.0])
                found.append((mask, int(label if known else rng.choice(OBJECTS))))
    found.append((np.zeros(SIZE, bool), CAR))
    return [(mask, label, int(rng.integers(1, 15)) / 16) for mask, label in found]  # equal ones too


def result_of(found: list[tuple[np.ndarray, int, float]]) -> Result:
    shapes, labels, scores = [list(column) for column in zip(*found, strict=True)]
    classes = [OBJECTS.index(label) for label in labels]
    return Result(instances=perturbed.instances(shapes, classes, scores))


def record_of(path: Path) -> Record:
    return Record(path.name, SIZE, (Frame(Path("a_leftImg8bit.png"), (), path),))


def official(
    pairs: list[tuple[Path, list[tuple[np.ndarray, int, float]]]], folder: Path, monkeypatch
):
    """What cityscapesScripts says of files."""
    monkeypatch.setattr(
        np, "in1d", np.isin, raising=False
    )  # it needs a function that NumPy has lost
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    texts = []
    for i, (_, found) in enumerate(pairs):
        lines = []
        for j, (mask, label, score) in enumerate(found):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{i}_{j}.png")
            lines.append(f"{i}_{j}.png {label} {score}\n")
        (folder / f"{i}_pred.txt").write_text("".join(lines))
        texts.append(str(folder / f"{i}_pred.txt"))
    options = {"predictionPath": str(folder), "gtInstancesFile": str(folder / "objects.json")}
    for name, value in (options | {"quiet": True, "JSONOutput": False}).items():
        monkeypatch.setattr(script.args, name, value)
    script.setInstanceLabels(script.args)
    truth = [str(path) for path, _ in pairs]
    objects = script.getGtInstances(truth, script.args)
    # in parts: it would write files that hold numbers of NumPy, which JSON does not know
    table = script.evaluateMatches(
        script.matchGtWithPreds(texts, truth, objects, script.args), script.args
    )
    labels = {label.id: label.name for label in script.labels}
    assert script.args.instLabels == [labels[i] for i in OBJECTS]
    assert {label.id for label in script.labels if label.ignoreInEval} == {*cityscapes.VOID, -1}
    return table[0], script.computeAverages(table, script.args)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_equals_the_official_script(seed, tmp_path, monkeypatch):
    rng = np.random.default_rng(seed)
    evaluator, pairs = CityscapesEvaluator(CITY), []
    for i in range(8):
        ids = scene(rng)
        path, found = write_ids(tmp_path, str(i), ids), predicted(ids, rng)
        pairs.append((path, found))
        evaluator.update(result_of(found), record_of(path))
    theirs, averages = official(pairs, tmp_path, monkeypatch)
    ours = np.array(
        [
            [
                cityscapes.average_precision(evaluator.parts, k, float(t))
                for t in cityscapes.THRESHOLDS
            ]
            for k in OBJECTS
        ]
    )
    assert np.array_equal(ours, theirs, equal_nan=True)
    metrics = evaluator.compute()
    assert metrics["cityscapes AP"] / 100 == pytest.approx(averages["allAp"], abs=1e-12)
    assert metrics["cityscapes AP50"] / 100 == pytest.approx(averages["allAp50%"], abs=1e-12)
    assert 0.05 < averages["allAp"] < 0.95
    of_classes = [value["ap"] for value in averages["classes"].values()]
    for name, value in zip(CITY.classes, of_classes, strict=True):
        assert metrics.get(f"cityscapes AP-{name}", np.nan) / 100 == pytest.approx(
            value, nan_ok=True
        )


# ---------------------------------------------------------------- by hand


def block(columns: range, rows: range = range(20)) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


def ap(tmp_path: Path, truth: dict[int, np.ndarray], found) -> float:
    """Cars; `truth` is {pixel value: mask} on a road."""
    ids = np.full(SIZE, ROAD)
    for value, mask in truth.items():
        ids[mask] = value
    evaluator = CityscapesEvaluator(CITY)
    result = result_of([(mask, CAR, score) for mask, score in found])
    evaluator.update(result, record_of(write_ids(tmp_path, "a", ids)))
    return evaluator.compute()["cityscapes AP"]


A, B, C = block(range(20)), block(range(40, 60)), block(range(80, 100))


def test_worked_by_hand(tmp_path):
    one, two = {26001: A}, {26001: A, 26002: B}
    assert ap(tmp_path, two, [(A, 0.9), (B, 0.8)]) == pytest.approx(100)
    assert ap(tmp_path, two, [(A, 0.9)]) == pytest.approx(50)
    # precision 1/2 at recall 1, 0 at 0: half of a step of width 1, where COCO says 50
    assert ap(tmp_path, one, [(C, 0.9), (A, 0.8)]) == pytest.approx(25)
    # IoU .8 passes .5 ... .75 alone: larger is meant; COCO counts .8 too
    assert ap(tmp_path, one, [(block(range(16)), 0.9)]) == pytest.approx(60)
    # found twice: the better one is right, the other a mistake: precisions 1, 1/2, 2/3
    twice = ap(tmp_path, two, [(A, 0.9), (A, 0.8), (B, 0.7)])
    assert twice == pytest.approx(100 * (1 + 1 + 1 / 2 + 2 / 3) / 4)
    assert ap(tmp_path, two, [(B, 0.0), (np.zeros(SIZE, bool), 0.9)]) == pytest.approx(50)


def test_what_lies_where_nothing_is_annotated_is_no_mistake(tmp_path):
    for value, expected in ((STATIC, 100), (SKY, 25), (26, 100), (24, 25), (29, 100), (29001, 25)):
        truth = {26001: A, value: C}
        assert ap(tmp_path, truth, [(C, 0.9), (A, 0.8)]) == pytest.approx(expected), value
    # .6 of it is nowhere: a mistake at thresholds from there on (.6 is .6000000000000001)
    truth = {26001: A, STATIC: block(range(80, 92))}
    assert ap(tmp_path, truth, [(C, 0.9), (A, 0.8)]) == pytest.approx((2 * 100 + 8 * 25) / 10)


def test_objects_under_a_hundred_pixels_are_ignored(tmp_path):
    small = block(range(150, 160), range(9))
    assert ap(tmp_path, {26001: A, 26002: small}, [(A, 0.9)]) == pytest.approx(100)
    assert ap(tmp_path, {26001: A, 26002: small}, [(small, 0.9), (A, 0.8)]) == pytest.approx(100)
    just = block(range(150, 160), range(10))
    assert ap(tmp_path, {26001: A, 26002: just}, [(A, 0.9)]) == pytest.approx(50)


def test_nothing(tmp_path):
    assert np.isnan(CityscapesEvaluator(CITY).compute()["cityscapes AP"])
    assert np.isnan(ap(tmp_path, {SKY: A}, [(A, 0.9)]))
    assert ap(tmp_path, {26001: A}, [(np.zeros(SIZE, bool), 0.9)]) == 0
    # all that is predicted is ignored; the script stops with an IndexError
    assert ap(tmp_path, {26001: A, STATIC: C}, [(C, 0.9)]) == 0


def test_panoptic_data_is_compared_with_the_ids_beside_its_labels(tmp_path):
    path = write_ids(tmp_path, "a", np.where(A, 26001, ROAD))
    beside = path.with_name("a_gtFine_labelIds.png")
    frame = Frame(Path("a.png"), (), tmp_path / "a_gtFine_panoptic.png", beside)
    evaluator = CityscapesEvaluator(CITY)
    evaluator.update(result_of([(A, CAR, 0.9)]), replace(record_of(path), frames=(frame,)))
    assert evaluator.compute()["cityscapes AP"] == pytest.approx(100)


def test_parts_are_numbers_alone(tmp_path):
    rng = np.random.default_rng(0)
    evaluator, ids = CityscapesEvaluator(CITY), scene(rng)
    found = predicted(ids, rng)
    evaluator.update(result_of(found), record_of(write_ids(tmp_path, "a", ids)))
    expected = evaluator.compute()
    evaluator.parts = pickle.loads(pickle.dumps(evaluator.parts))
    assert evaluator.compute() == expected
    assert len(pickle.dumps(evaluator.parts)) < 1500 + len(found) * 8 * (5 + 20)


def test_other_data_raises(tmp_path, root):
    coco = Catalog(root).metadata("coco_2017_val")
    with pytest.raises(DataError, match=r"coco_2017_val.*label ids.*missing"):
        CityscapesEvaluator(coco)
    record = replace(record_of(tmp_path), frames=(Frame(Path("x.png")),))
    with pytest.raises(DataError, match=r"x\.png.*_gtFine_instanceIds\.png"):
        CityscapesEvaluator(CITY).update(result_of([(A, CAR, 0.9)]), record)
    path = write_ids(tmp_path, "a", np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"a_gtFine_instanceIds\.png: is \(3, 4\)"):
        CityscapesEvaluator(CITY).update(result_of([(A, CAR, 0.9)]), record_of(path))
