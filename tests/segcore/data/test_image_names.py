"""What annotation files call their images, and where these are found."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore.data.image_names import ImageFiles
from segcore.data.images import image_size, read_image
from segcore.errors import DataError

ACCENTS = "\u00c4pfel 1.png"  # composed


def coco(folder: Path, *names: str) -> Path:
    """A COCO JSON of images of 3 x 2 pixels, which are called like this."""
    images = [{"id": i, "file_name": n, "height": 2, "width": 3} for i, n in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (folder / "train.json").write_text(json.dumps(content))
    return folder / "train.json"


def image(path: Path, value: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 2), value).save(path)
    return path


def files(name) -> list[Path]:
    _, records = load(str(name))
    return [record.frames[0].file for record in records]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("images\\x.png", "x.png"),
        ("..\\..\\media\\upload\\4\\x.png", "x.png"),
        ("C:\\Users\\me\\x.png", "x.png"),
        ("day 1\\x.png", "day 1/x.png"),
        ("https://example.org/data/x.png", "x.png"),
        ("https://example.org/data/x.png?token=7", "data/x.png"),
        ("s3://bucket/day/x.png", "day/x.png"),
        ("/data/upload/1/x.png", "x.png"),
        ("data/local-files/?d=photos/x.png", "photos/x.png"),
        ("data/local-files/?d=photos%2Fx.png", "x.png"),
        ("my%20photo.png", "my photo.png"),
        ("100%.png", "100%.png"),
        ("a%20b.png", "a%20b.png"),
        ("../photos/x.png", "x.png"),
    ],
)
def test_images_are_found_by_the_names_that_tools_write(tmp_path, name, file):
    expected = image(tmp_path / "images" / file)
    for path in (coco(tmp_path, name), f"{coco(tmp_path, name)}@{tmp_path}/images"):
        assert [f.resolve() for f in files(path)] == [expected]


def test_odd_names_among_plain_ones_are_found(tmp_path):
    image(tmp_path / "images/a.png")
    image(tmp_path / "images/b c.png")
    names = "a.png", "https://example.org/b%20c.png"
    assert [f.name for f in files(coco(tmp_path, *names))] == ["a.png", "b c.png"]


def test_two_names_of_one_file_raise(tmp_path):
    image(tmp_path / "images/x.png")
    path = coco(tmp_path, "https://a.org/1/x.png", "https://a.org/2/x.png")
    with pytest.raises(DataError, match=r"'https://a.org/1/x.png' and .* both lead to .*x\.png"):
        files(f"{path}@{tmp_path}/images")


def test_urls_of_images_that_are_not_here_raise(tmp_path):
    (tmp_path / "images").mkdir()
    path = coco(tmp_path, "https://a.org/1/x.png")
    with pytest.raises(DataError, match=r"are URLs .* has no x\.png; download them .*@IMAGES"):
        files(f"{path}@{tmp_path}/images")


def test_plain_names_are_not_looked_up(tmp_path, monkeypatch):
    image(tmp_path / "a.png")
    find = ImageFiles(tmp_path, tmp_path / "x.json")
    assert find("a.png") == tmp_path / "a.png"
    monkeypatch.setattr(Path, "exists", None)
    monkeypatch.setattr(Path, "stat", None)
    assert find("train/b.png") == tmp_path / "train/b.png"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_of_either_form_are_one_name(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    on_disk = image(tmp_path / "images" / unicodedata.normalize(form, ACCENTS), 7)
    (file,) = files(coco(tmp_path, unicodedata.normalize(other, ACCENTS)))
    assert image_size(file) == (2, 3)
    assert (read_image(file) == read_image(on_disk)).all()
    labels = image(tmp_path / "labels" / unicodedata.normalize(other, ACCENTS), 0)
    (tmp_path / "classes.json").write_text('["a"]')
    assert files(f"{labels.parent}@{on_disk.parent}") == [on_disk]


def packed(path: Path, *names: str | bytes) -> Path:
    """A zip file of images whose values are 1, 2, ...; names of bytes do not say their encoding."""
    keys = [f"{i}{'_' * 40}"[: len(n)] if isinstance(n, bytes) else n for i, n in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for value, key in enumerate(keys, 1):
            entry = zipfile.ZipInfo("x")
            entry.filename = key
            archive.writestr(entry, image(path.parent / "drawn.png", value).read_bytes())
    content = path.read_bytes()
    for key, name in zip(keys, names, strict=True):
        if isinstance(name, bytes):
            content = content.replace(key.encode(), name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("entries", "name", "value"),
    [
        (["train\\a.png", "train\\b.png"], "b.png", 2),
        (["train/a.png", "__MACOSX/train/._a.png", "train/._a.png"], "a.png", 1),
        (["masks/a.png", "train/a.png"], "a.png", 2),
        (["preview.jpg", "train/a.png"], "a.png", 2),
        (["cover.png", "photos/a.png"], "a.png", 2),
        (["train/\u56fe\u4e00.png".encode("gbk")], "\u56fe\u4e00.png", 1),
        (["train/\u8868.png".encode("cp932")], "\u8868.png", 1),
        (["\u00e4.png".encode("cp1252")], "\u00e4.png", 1),
        ([f"train/{ACCENTS}".encode()], ACCENTS, 1),
        ([f"train/{unicodedata.normalize('NFD', ACCENTS)}"], ACCENTS, 1),
    ],
)
def test_zip_files_of_any_program(tmp_path, entries, name, value):
    packed(tmp_path / "train.zip", *entries)
    (file,) = files(coco(tmp_path, name))
    assert image_size(file) == (2, 3)
    assert np.unique(read_image(file)) == value


def test_label_images_pair_with_a_zip_file_of_macos(tmp_path):
    packed(tmp_path / "train.zip", "train/a.jpg", "__MACOSX/train/._a.jpg", "train/._a.jpg")
    image(tmp_path / "labels/a.png", 0)
    (tmp_path / "labels/._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "classes.json").write_text('["a"]')
    assert len(files(f"{tmp_path}/labels@{tmp_path}/train.zip")) == 1


def test_links_in_a_circle_end_and_others_are_followed(tmp_path):
    for folder in ("labels/day", "images/day"):
        image(tmp_path / folder / "a.png", 0)
        (tmp_path / folder / "all").symlink_to("..")
        (tmp_path / folder.split("/")[0] / "again").symlink_to("day")
    (tmp_path / "classes.json").write_text('["a"]')
    _, records = load(f"{tmp_path}/labels@{tmp_path}/images")
    assert [record.id for record in records] == ["again/a", "day/a"]
