"""What is lost of a data set is counted by reason and class, and refused where it is everything."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore.data import problem as kinds
from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.data.label_sample import sample_labels
from segcore.data.survey import CROWD, Survey
from segcore.errors import DataError

H, W = 40, 60
SQUARE = [5, 5, 25, 5, 25, 25, 5, 25]  # 400 pixels
SMALL = [0, 0, 5, 0, 5, 5, 0, 5]
GOOD = {"image_id": 1, "segmentation": [SQUARE], "area": 400, "bbox": [5, 5, 20, 20]}


def moved(dx, dy, scale=1.0):
    """The square, drawn elsewhere."""
    return [[v * scale + (dx, dy)[i % 2] for i, v in enumerate(SQUARE)]]


def dataset(folder, first, second=(), images=1):
    """Annotations of two classes: `first` of class 0, `second` of class 1."""
    listed = [
        {"id": i, "file_name": f"{i}.png", "height": H, "width": W} for i in range(1, images + 1)
    ]
    annotations = [
        GOOD | {"id": 10 * k + i, "category_id": k} | change
        for k, changes in ((1, first), (2, second))
        for i, change in enumerate(changes)
    ]
    content = {"images": listed, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    for image in listed:
        Image.new("L", (W, H)).save(folder / image["file_name"])
    (folder / "x.json").write_text(json.dumps(content))
    return f"{folder}/x.json@{folder}"


def survey_of(folder, *args, **more):
    catalog, name = Catalog(folder), dataset(folder, *args, **more)
    survey = Survey(catalog.metadata(name))
    return survey, catalog.read(name, survey.add, survey=survey)


RLE = {"size": [H, W], "counts": [0, 100, H * W - 100]}  # 100 pixels


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"segmentation": []}, kinds.NO_MASK, "has no mask"),
        ({"segmentation": [[]]}, kinds.NO_MASK, "has no mask"),
        ({"segmentation": None}, kinds.NO_MASK, "has no mask"),
        ({"segmentation": [SQUARE[:-1]]}, kinds.SHORT, "no ring of three points"),
        ({"segmentation": [[1, 2, 3, 4]]}, kinds.SHORT, "no ring of three points"),
        ({"segmentation": [[1, 1, 9, 9, 5, 5]]}, kinds.FLAT, "mask without a pixel"),
        ({"segmentation": RLE | {"counts": [H * W]}}, kinds.FLAT, "mask without a pixel"),
        ({"segmentation": moved(0, 0, 0.02)}, kinds.UNIT, "from x 0.1 to 0.5 and y 0.1 to 0.5"),
        ({"segmentation": moved(500000, 5400000)}, kinds.OUTSIDE, r"map coordinates\?"),
        (
            {"segmentation": moved(60, 0)},
            kinds.OUTSIDE,
            "x 65 to 85 and y 5 to 25.*image of another",
        ),
        ({"segmentation": moved(10, 35)}, kinds.OUTSIDE, r"are x and y swapped\?"),
        (
            {"segmentation": moved(-20, 0)},
            kinds.MOSTLY_OUTSIDE,
            "from x -15 to 5 .* of another size",
        ),
        ({"segmentation": moved(0, 0, 4)}, kinds.MOSTLY_OUTSIDE, "to 100 .* 60 x 40 pixels"),
    ],
)
def test_what_teaches_nothing_is_counted_and_refused(tmp_path, change, kind, said):
    survey, records = survey_of(tmp_path, [change, change, {}], [{}])
    assert survey.lost == {kind: {0: 2}} and not survey.odd
    assert len(records[0].frames[0].segments) == (2 if kind in kinds.DROPPED else 4)
    level, line = survey.lines()[2]
    assert level == logging.WARNING and f"{kind}: 2 (square 2)" in line
    assert not survey.refusal()
    survey, _ = survey_of(tmp_path, [change, change], [{}])
    refusal = survey.refusal()
    assert f"classes that lose every annotation: 'square' (2 {kind}) would teach" in refusal
    assert "x.json: annotation 10 of image 1 " in refusal
    assert re.search(said, refusal)
    survey, _ = survey_of(tmp_path, [change], [change])
    assert "all classes lose every annotation: 'square' (1 " in survey.refusal()


def test_what_is_in_order_is_no_loss(tmp_path):
    bow = [10, 10, 30, 30, 30, 10, 10, 30]  # crosses itself: no area by the shoelace formula
    first = [{}, {"segmentation": [[*SQUARE, *SQUARE[:2]]]}, {"segmentation": [bow], "area": 200}]
    first += [{"segmentation": [SQUARE, [1, 2, 3, 4]]}]  # a splinter more: its area is right
    first += [{"segmentation": [bow], "area": None, "bbox": None}]
    first += [{"segmentation": RLE, "area": 100}, {"area": 0}, {"bbox": [1]}]
    survey, records = survey_of(tmp_path, first, [{}])
    assert not survey.lost and not survey.odd and not survey.refusal()
    assert [text for _, text in survey.lines()] == [
        f"{records and survey.metadata.name}: 1 images",
        "  9 annotations: square 8, disc 1",
        "nothing is lost",
    ]


def test_one_broken_ring_of_several_is_said(tmp_path):
    broken = {"segmentation": [SQUARE[:-1], SMALL]}
    survey, records = survey_of(tmp_path, [broken, {}], [broken | {"area": None}, {}])
    assert survey.lost == {kinds.BROKEN_RING: {0: 1, 1: 1}}
    assert (
        "has 1 broken rings beside 1 others; they cover 25 pixels, its area is 400"
        in (survey.first[kinds.BROKEN_RING])
    )
    assert len(records[0].frames[0].segments) == 4  # as detectron2 does it
    survey, _ = survey_of(tmp_path, [broken], [{}])
    assert "'square' (1 one of several rings left out)" in survey.refusal()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"area": 4000}, kinds.OTHER_AREA),
        ({"segmentation": [SMALL]}, kinds.OTHER_AREA),
        ({"segmentation": RLE}, kinds.OTHER_AREA),
        ({"segmentation": moved(30, 10)}, kinds.OTHER_BOX),
    ],
)
def test_masks_that_differ_from_their_own_area_or_box_are_said(tmp_path, change, kind):
    survey, _ = survey_of(tmp_path, [change], [{}])
    assert survey.odd == {kind: {0: 1}} and not survey.lost and not survey.refusal()
    assert survey.lines()[2][0] == logging.WARNING


def test_a_coordinate_that_went_astray_raises(tmp_path):
    """Drawn, it would be a line of a hundred million points."""
    name = dataset(tmp_path, [{"segmentation": [[5, 5, 9.9e6, 5, 25, 25]]}])
    with pytest.raises(DataError, match="annotation 10 of image 1 reaches from x 5 to 9900000"):
        load(name)
    assert examine(Catalog(tmp_path), name).counts == {kinds.ASTRAY: 1}


def test_crowds_are_counted_and_refused_where_a_class_has_nothing_else(tmp_path):
    crowd = {"iscrowd": 1}
    survey, _ = survey_of(tmp_path, [crowd, crowd, {}, {}, {}], [{}])
    assert survey.lines()[2] == (
        logging.INFO, f"{survey.metadata.name}: lost or doubtful: {CROWD}: 2 (square 2)"
    )  # fmt: skip
    survey, _ = survey_of(tmp_path, [crowd, crowd, {}], [{}])
    assert survey.lines()[2][0] == logging.WARNING and not survey.refusal()
    survey, _ = survey_of(tmp_path, [crowd, {"segmentation": []}], [{}])
    assert "(1 box without a mask, 1 marked crowd)" in survey.refusal()
    assert 'write "iscrowd": 0' in survey.refusal()
    survey, _ = survey_of(tmp_path, [crowd], [{}])
    assert not survey.refusal(crowds_train=True)  # label images show them


def test_few_losses_of_many_are_no_warning(tmp_path):
    survey, _ = survey_of(tmp_path, [{}] * 200 + [{"segmentation": []}], [{}])
    level, line = survey.lines()[2]
    assert level == logging.INFO and f"{kinds.NO_MASK}: 1 (square 1)" in line


def test_empty_images_are_said(tmp_path):
    survey, _ = survey_of(tmp_path, [{}], [{}], images=3)
    assert survey.lines("left out")[0] == (
        logging.WARNING,
        f"{survey.metadata.name}: 3 images, 2 of them without an annotation: left out",
    )
    survey, _ = survey_of(tmp_path, [], images=0)
    assert "has no image; there is nothing to train on" in survey.refusal()


def test_the_doctor_says_the_same(tmp_path, caplog):
    name = dataset(tmp_path, [{"segmentation": []}], [{}])
    examination = examine(Catalog(tmp_path), name)
    assert examination.counts == {kinds.NO_MASK: 1, "nothing to train on": 1}
    survey, _ = survey_of(tmp_path, [{"segmentation": []}], [{}])
    assert examination.survey and examination.survey.lines() == survey.lines()
    assert examination.problems["nothing to train on"][0].message == survey.refusal()
    Catalog(tmp_path).read(name)
    assert "box without a mask: 1 (square 1)" in caplog.text  # a test set says it too


# ---------------------------------------------------------------- label images


def labels(folder, arrays, classes):
    for name in ("labels", "images"):
        (folder / name).mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"labels/{i:03d}.png")
        Image.new("RGB", array.shape[::-1]).save(folder / f"images/{i:03d}.png")
    (folder / "classes.json").write_text(json.dumps(classes))
    catalog, name = Catalog(folder), f"{folder}/labels"
    return catalog.metadata(name), catalog.read(name)


def half(first, second, kind=np.uint8):
    """(4, 8) of one value, then of another."""
    return np.repeat(np.array([[first, second]], kind), 4, 1).repeat(4, 0)


def test_label_images_of_one_class_are_said_to_teach_nothing(tmp_path):
    metadata, records = labels(tmp_path, [half(255, 0)] * 3, ["lesion"])
    sample = sample_labels(records, metadata)
    assert sample
    assert (sample.classes, sample.pixels, sample.ignored) == ({0: 3}, 96, 48)
    assert "'lesion' is the only class in 3 of 3 label images, 50 % of" in sample.trivial(metadata)
    assert not sample.refusal(metadata)
    examination = examine(Catalog(tmp_path), f"{tmp_path}/labels")
    assert examination.counts == {"one answer is always right": 1}


def test_labels_of_0_and_255_are_refused(tmp_path):
    metadata, records = labels(tmp_path, [half(0, 255)] * 3, ["ground", "object"])
    survey = Survey(metadata, images=3, labels=sample_labels(records, metadata))
    assert 'if 255 is a class, say so: "label_map": {"0": 0, "255": 1}' in survey.refusal()


def test_a_second_class_is_looked_for_in_all_label_images(tmp_path):
    arrays = [half(0, 0) for _ in range(60)]
    arrays[37] = half(0, 1)
    metadata, records = labels(tmp_path, arrays, ["ground", "object"])
    sample = sample_labels(records, metadata)
    assert sample
    assert (sample.read, sample.classes, sample.trivial(metadata)) == (60, {0: 60, 1: 1}, "")
    arrays[0] = half(0, 1)
    Image.fromarray(arrays[0]).save(tmp_path / "labels/000.png")
    sample = sample_labels(records, metadata)
    assert sample and sample.read == 16


def test_segments_are_targets_without_a_look_at_labels(tmp_path):
    survey, records = survey_of(tmp_path, [{}])
    assert sample_labels(records, survey.metadata) is None
