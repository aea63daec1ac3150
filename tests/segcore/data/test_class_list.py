"""Class lists and evaluators as people write them, rightly and wrongly."""

import json
from pathlib import Path

import pytest
import yaml
from fake_task import make_task

from segcore.build.evaluators import EVALUATORS, build_evaluators
from segcore.data.catalog import Catalog
from segcore.data.formats.table import all_formats
from segcore.data.parsing.class_list import class_list
from segcore.errors import DataError

ABC = {"names": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"ignore_lable": 0}, "unknown key 'ignore_lable'; did you mean 'ignore_label'"),
        ({"Names": 0}, "unknown key 'Names'; did you mean 'names'"),
        ({"zzz": 0}, "unknown key 'zzz'; there are classes, colors, frequencies, ids"),
        ({"names": {"0": "a"}}, "must be a list of names"),
        ({"names": []}, "must be a list of names"),
        ({"names": ["a", None]}, "None is no class name"),
        ({"ids": ["a", 1, 2]}, r"has ids \['a', 1, 2\]; expected a whole number"),
        ({"ids": [1, 2]}, "3 class names but 2 ids"),
        ({"ids": [1, 2, 2]}, "class ids are not unique"),
        ({"things": 1}, "has things 1; expected a list of whole numbers"),
        ({"num_things": 4}, "num_things is 4; expected 0 to 3"),
        ({"colors": ["#ffffff"] * 3}, "'#ffffff' is no colour"),
        ({"colors": [[1, 2, 300]] * 3}, r"\[1, 2, 300\] is no colour"),
        ({"ignore_label": None}, "ignore_label None; expected a whole number"),
        ({"ignore_label": 1 << 30}, "expected a pixel value, at most 16777215"),
        ({"label_map": [0, 1, 2]}, r"expected \{pixel value: class\}"),
        ({"label_map": {"0": 5}}, r"label_map makes pixel value 0 class 5; expected 0\.\.2"),
        ({"label_map": {"-3": 0}}, "has label_map"),
        ({"label_map": {"0": "a"}}, "has label_map"),
    ],
)
def test_mistakes_raise(more, message):
    with pytest.raises(DataError, match=rf"^mine\.yaml: .*{message}"):
        class_list(ABC | more, "mine.yaml")


def test_all_that_may_be_said():
    full = {"classes": ["a", 2], "ids": [5, 7.0], "things": [7], "palette": [[0, 1, 2]] * 2}
    classes = class_list(full | {"ignore_index": 0, "label_map": {"9": 1}}, "x")
    assert (classes.names, classes.ids, classes.things) == (("a", "2"), (5, 7), {7})
    assert (classes.colors, classes.ignore_label, classes.label_map) == (
        ((0, 1, 2),) * 2,
        0,
        {9: 1},
    )
    assert class_list(["a"], "x").ignore_label == 255


def written(folder, more):
    block = {"reader": "label_png", "classes": ABC}
    block |= {"names": {"m": {"images": "x", "annotations": "x"}}} | more
    (folder / "m.yaml").write_text(yaml.safe_dump(block))
    return Catalog(Path(), [folder / "m.yaml"])


def entry(folder, more):
    return written(folder, more).metadata("m")


def test_evaluators_are_known(tmp_path):
    assert all(set(format.evaluators) <= EVALUATORS.keys() for format in all_formats())
    assert entry(tmp_path, {"evaluators": "instance"}).evaluators == ("instance",)
    assert entry(tmp_path, {"evaluators": []}).evaluators == ()
    assert entry(tmp_path, {}).evaluators == ("semantic",)
    assert entry(tmp_path, {"reader": "cityscapes_panoptic"}).evaluators[0] == "panoptic"
    catalog = written(tmp_path, {"evaluators": ["semantic", "semanticc"]})
    with pytest.raises(DataError, match=r"m: unknown evaluators .*; there are semantic, pan"):
        build_evaluators(make_task(), catalog, catalog.metadata("m"))
    for wrong in (3, [3]):
        with pytest.raises(DataError, match=r"m: evaluators is \[?3\]?; expected a list of names"):
            entry(tmp_path, {"evaluators": wrong})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"names": None}, "`names` is None; expected NAME"),
        ({"names": ["m"]}, r"`names` is \['m'\]; expected NAME"),
        ({"names": {"m": {"images": 1, "annotations": "x"}}}, "m has 1 where a path is expected"),
        ({"reader": ["label_png"]}, r"unknown reader \['label_png'\]"),
        ({"classes": ABC | {"things": [9]}}, r"m: things has \[9\], which are not among"),
        ({"classes": ABC | {"ignore_lable": 0}}, "m: unknown key 'ignore_lable'"),
        ({"classes": {"classes": ["a"], "ids": [None]}}, r"m: the class list has ids \[None\]"),
        ({5: 6}, r"unknown \['5'\]"),
    ],
)
def test_wrong_values_in_a_catalogue_raise(tmp_path, more, message):
    with pytest.raises(DataError, match=message):
        entry(tmp_path, more)


def test_classes_beside_label_images_name_their_file(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(ABC | {"ignore_lable": 0}))
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"classes\.json: unknown key 'ignore_lable'"):
        Catalog(Path()).metadata(f"{tmp_path}/labels@{tmp_path}")


def yaml_list(folder, text):
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "classes.yaml").write_text(text)
    return Catalog(Path()).metadata(f"{folder}/labels@{folder}")


def test_words_of_yaml_lists_are_no_booleans_and_no_numbers(tmp_path):
    words = ("no", "yes", "off", "010", "1e3", "12:30", "2020-01-01", "True")
    listed = ", ".join(words)
    assert yaml_list(tmp_path, f"names: [{listed}]\nignore_label: 0x10\n").classes == words
    assert yaml_list(tmp_path, f"names: [{listed}]\nignore_label: 0x10\n").ignore_label == 16
    assert yaml_list(tmp_path, f"classes: [{listed}]\n").classes == words
    assert yaml_list(tmp_path, "\n".join(f"- {word}" for word in words)).classes == words
    own = f"reader: label_png\nclasses: [{listed}]\nnames: {{m: {{images: x, annotations: x}}}}\n"
    (tmp_path / "m.yaml").write_text(own)
    assert Catalog(Path(), [tmp_path / "m.yaml"]).metadata("m").classes == words
    with pytest.raises(DataError, match="None is no class name; expected a text, in quotes"):
        yaml_list(tmp_path, "names: [a, ~]")
    with pytest.raises(DataError, match="True is no class name"):
        class_list({"names": ["a", True]}, "x")


def test_no_class_loses_its_value_to_the_ignored_one():
    """By default 255 is ignored; where that is a class, 65535, and with a label_map the rest."""
    many = [f"c{i}" for i in range(300)]
    assert class_list(many[:255], "x").ignore_label == 255
    assert class_list(many[:256], "x").ignore_label == 65535
    assert class_list(many, "x").ignore_label == 65535
    mapped = ABC | {"label_map": {"0": 0, "255": 1}}
    assert class_list(mapped, "x").ignore_label == 65535
    assert class_list(mapped | {"label_map": {255: 1, 65535: 0}}, "x").ignore_label == -1
    assert class_list(ABC | {"label_map": {"1": 0}, "ignore_label": 0}, "x").ignore_label == 0
    with pytest.raises(DataError, match="x: ignore_label 255 is the value of class 1 in the label"):
        class_list(mapped | {"ignore_label": 255}, "x")
    for label in (0, 2):
        with pytest.raises(DataError, match=f"ignore_label {label} is the value of class {label}"):
            class_list(ABC | {"ignore_label": label}, "x")


def test_rows_of_classes_of_one_name_are_told_apart_by_their_ids(tmp_path):
    metadata = entry(tmp_path, {"classes": {"names": ["a", "b", "a"], "ids": [4, 5, 9]}})
    assert metadata.classes == ("a", "b", "a")
    assert metadata.row_names == ("a (id 4)", "b", "a (id 9)")
