"""Findings: their severity, and what a program that meets them ends with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.data.catalog import Catalog
from segcore.doctor.checkup import check_up
from segcore.doctor.finding import Case, by_severity, finding, status

RARE = "class with under 10 objects or label images"


def found(folder, name, **more):
    """Severity and count by check."""
    checkup = check_up(Catalog(folder), name, **more)
    return {f.check: (f.severity, f.count) for f in checkup.findings}


def test_status_is_that_of_the_worst():
    note, warning, error = (
        finding(s, s, "data", [Case(message="here")]) for s in ("note", "warning", "error")
    )
    assert [status([note], strict=strict) for strict in (False, True)] == [0, 0]
    assert [status([note, warning], strict=strict) for strict in (False, True)] == [0, 1]
    assert [status([warning, error], strict=strict) for strict in (False, True)] == [1, 1]
    many = finding("note", "often", "data", [], count=9)
    assert by_severity([note, warning, many, error]) == [error, warning, many, note]


def test_faults_losses_and_oddities_differ(tmp_path, coco):
    fault = {"category_id": 9}
    loss = {"segmentation": [[1, 2, 3, 4]]}
    oddity = {"area": 4000}
    name = coco([[{}, {}, fault, loss, oddity], [{"category_id": 2}]])
    assert found(tmp_path, name) == {
        "category": ("error", 1),
        "ring of an odd length or of under three points": ("warning", 1),
        "mask of another area than the file says": ("note", 1),
        RARE: ("note", 2),
    }


def test_a_sound_data_set_has_no_finding(tmp_path, coco):
    assert not found(tmp_path, coco([[{}, {"category_id": 2}] for _ in range(10)]))


def test_what_cannot_be_read_is_an_error(tmp_path):
    assert found(tmp_path, "nowhere/x.json@nowhere") == {
        "data set that cannot be read": ("error", 1)
    }


def test_classes_out_of_balance(tmp_path, coco):
    many = [{}] * 50
    name = coco([many, [{"category_id": 2}]], classes=("often", "rare", "never"))
    assert found(tmp_path, name) == {
        "class that never occurs": ("note", 1),
        RARE: ("note", 1),
        "one class is nearly everything": ("note", 1),
    }


def test_classes_that_are_crowds_for_the_most_part(tmp_path, coco):
    crowd, disc = {"iscrowd": 1}, {"category_id": 2}
    check = "class of crowds for the most part"
    name = coco([[{}, crowd, crowd, disc, disc | crowd]])
    assert found(tmp_path, name)[check] == ("warning", 1)
    assert check not in found(tmp_path, coco([[{}, crowd, disc]], name="few"))


# ---------------------------------------------------------------- numbers of label images


def labels(folder, *, shift=0, unknown=None):
    """The drawn label images, with other numbers."""
    make_dataset(folder, 4)
    (folder / "classes.json").write_text('["box", "disc", "ground"]')
    for path in sorted((folder / "labels").iterdir()):
        label = np.array(Image.open(path))
        if unknown is not None:
            label[label == 0] = unknown
        label[label < 255] += shift
        Image.fromarray(label).save(path)
    return f"{folder}/labels@{folder}/images"


def test_labels_from_1_are_an_error(tmp_path):
    name = labels(tmp_path, shift=1)
    checkup = check_up(Catalog(tmp_path), name)
    (shifted,) = (f for f in checkup.findings if f.check == "label images count from 1")
    assert (shifted.severity, shifted.count) == ("error", 4)
    assert '"label_map": {"1": 0, "2": 1, "3": 2}' in shifted.advice
    assert str(tmp_path / "labels/00.png") in shifted.cases[0].message


def test_labels_that_may_count_from_1_are_a_warning(tmp_path):
    results = found(tmp_path, labels(tmp_path, unknown=1))
    assert results["label images may count from 1"] == ("warning", 1)


@pytest.mark.parametrize("unknown", [None, 77])
def test_labels_from_0_are_in_order(tmp_path, unknown):
    """So are those with a value that no shift explains: another error says that."""
    results = found(tmp_path, labels(tmp_path, unknown=unknown))
    assert not [check for check in results if "count from 1" in check]
    assert ("label values" in results) == (unknown is not None)
