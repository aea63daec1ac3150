"""What a config's model will not see of a data set, or not all at once."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_images import square
from tiny import make_dataset

from segcore.build.recipe import build_recipe
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.doctor.checkup import can_be_drawn, check_up
from segcore.doctor.crops import count_crops, vanishing

SMALL = "object smaller than a cell of the finest map"
QUERIES, DETECTIONS = (f"image with more objects than {what}" for what in ("queries", "detections"))
VANISHES = "object that vanishes in the crops"
TINY = "object left with less than a cell in the crops"
EMPTY = "sample without an object"


def recipe_of(root, folder, name, *opts, config="instance"):
    cfg = load_config(root / f"configs/tiny/{config}_tiny.yaml", opts)
    return build_recipe(cfg, Catalog(folder).metadata(name))


def found(root, folder, name, *opts):
    recipe = recipe_of(root, folder, name, *opts)
    checkup = check_up(Catalog(folder), name, recipe=recipe)
    return {f.check: f for f in checkup.findings}


def test_objects_below_a_cell(tmp_path, root, coco):
    """The images are 48 high: at 24 a square of 6 pixels has 9 of a cell's 16."""
    entries = [{}, {"segmentation": [square(2, 2, 6)], "area": 36, "bbox": None}]
    name = coco([[*entries, {"category_id": 2}], [{}] * 17])
    results = found(root, tmp_path, name, "INPUT.MIN_SIZE_TEST", "24")
    small = results[SMALL]
    assert (small.severity, small.count, small.cases[0].segment) == ("note", 1, 1)
    assert small.cases[0].message == "image 1: 36 pixels, 9.0 of them at 24x32, of 16 in a cell"
    assert small.advice.startswith("5.0 % of all objects, 1 of 19 of 'square'")
    for opts in (["INPUT.MIN_SIZE_TEST", "48"], ["INPUT.MIN_SIZE_TEST", "0"]):
        assert SMALL not in found(root, tmp_path, name, *opts)


def test_areas_that_no_file_states_are_measured(tmp_path, root, coco):
    rle = {"size": [48, 64], "counts": [0, 9, 48 * 64 - 9]}
    entries = [{"segmentation": shape, "area": None} for shape in ([square(2, 2, 3)], rle)]
    small = found(root, tmp_path, coco([entries]), "INPUT.MIN_SIZE_TEST", "0")[SMALL]
    assert (small.severity, small.count) == ("warning", 2)
    assert "9 pixels, 9.0 of them" in small.cases[0].message


def test_objects_against_queries_and_detections(tmp_path, root, coco):
    crowd = {"iscrowd": 1}  # is no target
    name = coco([[{}] * 9 + [crowd], [{}] * 8 + [crowd], [{}] * 12])
    results = found(root, tmp_path, name)
    assert results[QUERIES].count == 2 and "there are 8" in results[QUERIES].advice
    assert [c.message for c in results[QUERIES].cases] == [
        "image 3: 12 objects", "image 1: 9 objects",
    ]  # fmt: skip
    assert DETECTIONS not in results
    more = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12", "TEST.DETECTIONS_PER_IMAGE", "11"]
    results = found(root, tmp_path, name, *more)
    assert QUERIES not in results and results[DETECTIONS].count == 1


def crops(recipe, folder, name):
    checkup, samples = check_up(Catalog(folder), name, recipe=recipe), []
    assert can_be_drawn(checkup, recipe)
    counts = count_crops(checkup.passing.records, recipe, show=samples.append)
    return counts, samples, {f.check: f for f in vanishing(counts, recipe, name)}


def test_what_vanishes_in_crops_is_counted(tmp_path, root, coco):
    """Windows of a quarter of the image: none holds all four corners."""
    corners = [{"segmentation": [square(x, y, 4)]} for x in (0, 60) for y in (0, 44)]
    name = coco([corners] * 6)
    crop = ["INPUT.CROP.ENABLED", "true", "INPUT.CROP.SIZE", "[24, 32]"]
    opts = ["INPUT.MIN_SIZE_TRAIN", "[48]", *crop]
    counts, samples, results = crops(recipe_of(root, tmp_path, name, *opts), tmp_path, name)
    assert counts.samples == len(samples) == 24 and counts.objects == {0: 96}
    assert results[VANISHES].severity == "warning"
    assert results[VANISHES].count == 96 - counts.seen[0] >= 72
    assert results[EMPTY].count == counts.empty == sum(not len(s.targets.labels) for s in samples)


def test_nothing_vanishes_without_crops(tmp_path, root, coco):
    name = coco([[{}]] * 3)
    opts = ["INPUT.MIN_SIZE_TRAIN", "[48]"]
    counts, _, results = crops(recipe_of(root, tmp_path, name, *opts), tmp_path, name)
    assert counts.samples == 12 and not results
    small = ["INPUT.MIN_SIZE_TRAIN", "[6]"]  # where 20 pixels are 2.5
    _, _, results = crops(recipe_of(root, tmp_path, name, *small), tmp_path, name)
    assert results.keys() == {TINY} and results[TINY].count == 12


def test_of_label_images_the_classes_count(tmp_path, root):
    make_dataset(tmp_path, 3)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    name = f"{tmp_path}/labels@{tmp_path}/images"
    recipe = recipe_of(root, tmp_path, name, "INPUT.MIN_SIZE_TRAIN", "[64]", config="semantic")
    counts, _, results = crops(recipe, tmp_path, name)
    assert counts.objects == counts.seen == {0: 12, 1: 12, 2: 12} and not results


@pytest.mark.parametrize("config", ["instance", "detector"])
def test_other_classes_cannot_be_drawn(tmp_path, root, coco, config):
    recipe = recipe_of(root, tmp_path, coco([[{}]]), config=config)
    assert recipe.queries == (8 if config == "instance" else None)
    other = coco([[{}]], name="other", classes=("a", "b", "c"))
    assert not can_be_drawn(check_up(Catalog(tmp_path), other), recipe)


def test_broken_images_are_left_out_of_the_samples(tmp_path, root, coco):
    name = coco([[{}]] * 3)
    (tmp_path / "train/2.png").unlink()
    recipe = recipe_of(root, tmp_path, name)
    counts, samples, _ = crops(recipe, tmp_path, name)
    assert {s.record.id for s in samples} == {1, 3} and 0 < counts.samples < 12
    assert np.all([len(s.targets.labels) == 1 for s in samples])


def test_mirrored_classes_of_one_side_are_a_warning(tmp_path, root, coco):
    check = "class of one side, and images are mirrored"
    name = coco([[{}, {"category_id": 2}]], classes=("left_light", "hood"))
    warned = found(root, tmp_path, name, "INPUT.RANDOM_FLIP", "horizontal")[check]
    assert (warned.severity, [case.message for case in warned.cases]) == ("warning", ["left_light"])
    assert "INPUT.RANDOM_FLIP none" in warned.advice
    assert "INPUT.MIRROR_SWAP auto" not in warned.advice  # which would find no other side
    assert check not in found(root, tmp_path, name, "INPUT.RANDOM_FLIP", "none")


def test_mirrored_classes_that_change_places_are_right(tmp_path, root, coco):
    check = "class of one side, and images are mirrored"
    classes = ("left_light", "right_light", "hand_l", "hand_r")
    name = coco([[{}, {"category_id": 2}]], classes=classes)
    flip = ("INPUT.RANDOM_FLIP", "horizontal", "INPUT.MIRROR_SWAP")
    for swap, expected in (("[]", classes), ("[[left_light, right_light]]", classes[2:])):
        warned = found(root, tmp_path, name, *flip, swap)[check]
        assert [case.message for case in warned.cases] == list(expected)
        assert "MIRROR_SWAP auto" in warned.advice and "RANDOM_FLIP none" in warned.advice
    assert check not in found(root, tmp_path, name, *flip, "auto")


def test_mirroring_classes_without_sides_is_right(tmp_path, root, coco):
    results = found(root, tmp_path, coco([[{}]]), "INPUT.RANDOM_FLIP", "horizontal")
    assert not [check for check in results if "mirrored" in check]
