"""Datumaro's door: what it reads equals what was written, and what it says without the package.

The package is no part of the tests' environment: with `pip install 'segcore[datumaro]'` none of
them is skipped.
"""

import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from converted import converted
from drawn_shapes import make_shapes
from PIL import Image

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.data.formats.table import format_of, recognised
from segcore.data.problem import NO_MASK, OTHER_SHAPE
from segcore.errors import ConfigError, DataError
from segcore.segment_rle import to_rle

needs_datumaro = pytest.mark.skipif(find_spec("datumaro") is None, reason="no datumaro")


def test_the_door_is_named_and_never_recognised(tmp_path):
    assert format_of("datumaro").name == "datumaro"
    assert format_of("datumaro:kitti").name == "datumaro:kitti"
    assert not format_of("datumaro").recognises(tmp_path)
    with pytest.raises(DataError, match="has no KITTI"):
        format_of("datumaro:KITTI", "x")
    with pytest.raises(DataError, match="neither a JSON nor a folder"):
        recognised(tmp_path / "gone")


def test_a_missing_package_raises_an_error_that_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datumaro", None)
    for name in (f"datumaro={tmp_path}", f"datumaro:kitti={tmp_path}@train"):
        with pytest.raises(ConfigError, match=r"pip install 'segcore\[datumaro\]'"):
            Catalog(Path("nowhere")).metadata(name)


def objects(name, problem=None):
    """By image: the class and the mask of each object, and the files."""
    catalog = Catalog(Path("nowhere"))
    classes, found = catalog.metadata(name).classes, {}
    for record in catalog.read(name, problem):
        (frame,) = record.frames
        assert frame.file.is_file()
        found[record.id] = [
            (classes[s.category], s.crowd, masks.decode(to_rle(s, frame, record.size)))
            for s in frame.segments
        ]
    return found


@needs_datumaro
def test_masks_equal_those_that_were_written(tmp_path):
    converted(make_shapes(tmp_path / "in"), tmp_path / "coco", "coco_instances")
    wanted = list(objects(f"{tmp_path}/coco/annotations/instances_train.json").values())
    for form, part in (("", ""), ("", "@train"), (":coco", "@train")):
        found = objects(f"datumaro{form}={tmp_path}/coco{part}")
        assert list(found) == ["a/one", "empty", "two"]
        for ours, theirs in zip(wanted, map(found.get, ("a/one", "two", "empty")), strict=True):
            assert sorted(o[0] for o in ours) == sorted(o[0] for o in theirs)
            for label, _, mask in ours:  # Datumaro has an order of its own, and its polygons
                apart = [(mask ^ other).sum() for name, _, other in theirs if name == label]
                assert min(apart) <= 1


@needs_datumaro
def test_another_subset_or_format_raises_an_error_that_names_them(tmp_path):
    converted(make_shapes(tmp_path / "in"), tmp_path / "coco", "coco_instances")
    with pytest.raises(DataError, match="@val: there is no such subset; there are train"):
        objects(f"datumaro={tmp_path}/coco@val")
    with pytest.raises(DataError, match=r"cannot read it as kitti: .*datumaro:NAME="):
        objects(f"datumaro:kitti={tmp_path}/coco")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="bare: Datumaro cannot read it: "):
        objects(f"datumaro={tmp_path}/bare")


def drawn_items(folder):
    """A data set of Datumaro's own: shapes of all kinds in two images, and one that is no file."""
    datumaro = pytest.importorskip("datumaro")
    from datumaro.components.annotation import Bbox, Ellipse, Label, Mask, Points, Polygon
    from datumaro.components.media import Image as Media

    square = np.zeros((20, 30), bool)
    square[2:8, 3:9] = True
    for name in ("a", "b"):
        Image.new("RGB", (30, 20)).save(folder / f"{name}.png")
    shapes = [
        Mask(square, label=0, group=1),
        Bbox(3, 2, 6, 6, label=0, group=1),  # of the mask: no loss
        Bbox(1, 1, 5, 5, label=1),
        Points([1, 1, 2, 2], label=1),
        Label(1),
        Polygon([10, 1, 16, 1, 16, 7, 10, 7], label=1, group=2),
        Polygon([20, 1, 26, 1, 26, 7, 20, 7], label=1, group=2),
        Ellipse(10, 10, 20, 18, label=0, attributes={"is_crowd": True}),
        Mask(square[:5], label=0),
    ]
    Item = datumaro.DatasetItem
    items = [
        Item("a", media=Media.from_file(str(folder / "a.png")), annotations=shapes),
        Item("b", media=Media.from_file(str(folder / "b.png"))),
        Item("c", media=Media.from_numpy(np.zeros((20, 30, 3), np.uint8))),
    ]
    return datumaro.Dataset.from_iterable(items, categories=["square", "other"])


@needs_datumaro
def test_what_is_no_mask_is_counted_and_parts_are_joined(tmp_path, monkeypatch):
    drawn = drawn_items(tmp_path)
    door = format_of("datumaro")
    monkeypatch.setattr("datumaro.Dataset.import_from", lambda path, format: drawn)
    problems = []
    found = objects(f"datumaro={tmp_path}", problems.append)
    assert door.images_beside(tmp_path) == Path()
    assert list(found) == ["a", "b"]
    assert [(label, crowd, int(mask.sum())) for label, crowd, mask in found["a"]][:2] == [
        ("square", False, 36),
        ("other", False, 72),  # two parts of one group
    ]
    assert [o[:2] for o in found["a"][2:]] == [("square", True)]
    assert found["b"] == []
    counts = Counter(p.kind for p in problems if p.effect == "loss")
    assert counts == {NO_MASK: 1, OTHER_SHAPE: 1}
    faults = [p.message for p in problems if p.effect == "fault"]
    assert len(faults) == 2
    assert "has a mask of (5, 30) pixels; its image has (20, 30)" in faults[0]
    assert "c: its image is no file of its own" in faults[1]
