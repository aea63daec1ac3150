"""A fifth of a data set, held back by the names of its images."""

import numpy as np
import pytest
from tiny import make_dataset

from segcore.data.catalog import Catalog
from segcore.data.held_back import held_back, split_part
from segcore.errors import DataError


@pytest.mark.parametrize(("count", "held"), [(1, 1), (3, 1), (7, 1), (8, 2), (100, 20)])
def test_a_fifth_is_held_back_and_at_least_one(count, held):
    assert held_back([str(i) for i in range(count)]).sum() == held


def test_names_alone_say_which():
    names = [f"{i}.png" for i in range(50)]
    held = set(np.array(names)[held_back(names)])
    order = np.random.default_rng(0).permutation(50)
    mixed = [names[i] for i in order]
    assert set(np.array(mixed)[held_back(mixed)]) == held


def test_part_is_the_end_of_a_name():
    assert split_part("a/b.json@c#val") == ("a/b.json@c", "val")
    assert split_part("coco_2017_train#train") == ("coco_2017_train", "train")
    for whole in ("a#b", "#val", "a#value", "a"):
        assert split_part(whole) == (whole, "")


@pytest.mark.parametrize("file", ["panoptic.json", "instances.json", "labels"])
def test_parts_are_the_whole_in_every_format(tmp_path, file):
    make_dataset(tmp_path)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    name, catalog = f"{tmp_path / file}@{tmp_path / 'images'}", Catalog(tmp_path)
    parts = [{r.id for r in catalog.records(f"{name}#{part}")} for part in ("train", "val")]
    assert [len(part) for part in parts] == [6, 2]
    assert parts[0] | parts[1] == {r.id for r in catalog.records(name)}
    whole, part = catalog.metadata(name), catalog.metadata(f"{name}#val")
    assert (part.classes, part.evaluators) == (whole.classes, whole.evaluators)


def test_one_image_has_no_parts(tmp_path):
    make_dataset(tmp_path, count=1)
    with pytest.raises(DataError, match="has one image"):
        Catalog(tmp_path).read(f"{tmp_path}/instances.json@{tmp_path}/images#train")
