"""Folders of label images."""

from __future__ import annotations

import pytest
from loading import load
from PIL import Image

from segcore.errors import DataError


def test_label_images_below_folders(tmp_path):
    for city in ("a", "b"):
        for kind, suffix in (("images", "jpg"), ("labels", "png")):
            (tmp_path / kind / city).mkdir(parents=True)
            Image.new("L", (6, 4)).save(tmp_path / kind / city / f"one.{suffix}")
    (tmp_path / "classes.json").write_text('["x", "y"]')
    metadata, records = load(f"{tmp_path}/labels@{tmp_path}/images")
    assert metadata.classes == ("x", "y")
    assert [(r.id, r.size) for r in records] == [("a/one", (4, 6)), ("b/one", (4, 6))]
    (tmp_path / "images" / "b" / "one.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 label images have no image .*b/one\.png"):
        load(f"{tmp_path}/labels@{tmp_path}/images")


def test_labels_beside_their_photographs(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg", "c.tif", "c.JPEG"):
        Image.new("L", (6, 4)).save(tmp_path / name)
    (tmp_path / "classes.json").write_text('["x", "y"]')
    _, records = load(f"{tmp_path}@{tmp_path}")
    pairs = [(r.frames[0].file.name, r.frames[0].semantic.name) for r in records]
    assert pairs == [("a.jpg", "a.png"), ("c.JPEG", "c.tif")]
    Image.new("L", (6, 4)).save(tmp_path / "a.jpeg")
    with pytest.raises(DataError, match=r"a is not one label image and one photograph: .*a\.jpeg"):
        load(f"{tmp_path}@{tmp_path}")


def test_two_photographs_of_one_label_image_raise(tmp_path):
    for folder, names in (("images", ("a.jpg", "a.png")), ("labels", ("a.png",))):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("L", (6, 4)).save(tmp_path / folder / name)
    (tmp_path / "classes.json").write_text('["x", "y"]')
    with pytest.raises(DataError, match=r"images/a\.jpg, .*images/a\.png"):
        load(f"{tmp_path}/labels@{tmp_path}/images")
