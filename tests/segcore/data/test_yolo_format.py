"""YOLO's labels, as they are found in the field."""

import pytest
import yaml
from converted import contents, converted
from drawn_shapes import make_shapes
from loading import load

from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.data.problem import raise_it
from segcore.errors import DataError
from segcore.structures import Polygons


@pytest.fixture
def source(tmp_path):
    return make_shapes(tmp_path / "drawn", hard=True)


@pytest.fixture
def yolo(source, tmp_path):
    """The folder of a data set with two splits."""
    for split in ("train", "val"):
        converted(source, tmp_path / "yolo", "yolo", split=split)
    return tmp_path / "yolo"


def test_masks_come_back_from_one_ring_an_object(source, yolo):
    expected = contents(source, crowds=False)
    for name in (f"{yolo}/data.yaml", f"{yolo}/data.yaml@val", str(yolo), f"{yolo}/labels/val"):
        assert contents(name) == expected
    lines = (yolo / "labels/train/a/one.txt").read_text().splitlines()
    assert len(lines) == 3
    assert all(0 <= float(word) <= 1 for line in lines for word in line.split()[1:])


def test_losses_are_named(source, tmp_path):
    path, lost = converted(source, tmp_path / "new", "yolo")
    assert (path, lost) == (f"{tmp_path}/new/data.yaml", {"crowd regions, left out": 1})


def test_a_split_is_a_path(yolo):
    train, val = f"{yolo}/data.yaml", f"{yolo}/data.yaml@val"
    cfg = load_config(None, ["DATASETS.TRAIN", f"[{train}]", "DATASETS.TEST", f"[{val}]"])
    assert [train] == cfg.DATASETS.TRAIN
    assert [val] == cfg.DATASETS.TEST
    metadata, records = load(val)
    assert metadata.classes == ("box", "ring with hole", "never/seen")
    assert metadata.evaluators == ("instance", "boundary")
    assert {record.frames[0].file.parts[-2] for record in records} == {"val", "a"}


@pytest.mark.parametrize(
    "change",
    [
        {"train": "../train/images", "path": None},  # Roboflow's, in folders of each split
        {"train": "images/train", "path": "/home/someone/yolo"},
        {"train": "images/train", "path": "../yolo"},
        {"train": ["images/train/a", "images/train"], "path": None},
        {"train": "yolo\\images\\train", "path": ".."},
        {"train": "train.txt", "path": "."},
        {"train": "theirs.txt", "path": "C:\\Users\\me\\set"},
        {"train": "D:\\set\\images\\train", "path": None},
        {"train": "/home/me/set/images/train/"},
        {"nc": 3, "names": ["box", "ring with hole", "never/seen"]},
    ],
)
def test_places_of_the_field_are_found(source, yolo, change):
    if change.get("train") == "../train/images":
        (yolo / "train").mkdir()
        for name in ("images", "labels"):
            (yolo / name / "train").rename(yolo / "train" / name)
    names = ("a/one.png", "two.png", "empty.png")
    (yolo / "train.txt").write_text("".join(f"./images/train/{name}\n" for name in names))
    theirs = "".join(f"C:\\set\\images\\train\\{name}\r\n" for name in names).replace("a/", "a\\")
    (yolo / "theirs.txt").write_bytes(theirs.encode())
    content = yaml.safe_load((yolo / "data.yaml").read_text()) | change
    if content.get("path", ...) is None:
        del content["path"]
    (yolo / "data.yaml").write_text(yaml.safe_dump(content))
    images = contents(f"{yolo}/data.yaml")
    assert images == contents(source, crowds=False)


def test_boxes_are_left_out_and_counted(yolo, caplog):
    labels = yolo / "labels/train/two.txt"
    labels.write_text("0 .5 .5 .2 .2\n\n1 0 0 1 0 1 1\n0 .5 .5 .1 .1\n")
    _, records = load(f"{yolo}/data.yaml")
    segments = {r.id: r for r in records}["two"].frames[0].segments
    assert [s.shape for s in segments] == [Polygons(((0, 0, 45, 0, 45, 31),))]
    assert "box without a mask: 2 (box 2), e.g. " in caplog.text
    assert f"{labels}: line 1 has no mask" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x .1 .1 .2 .2 .3 .3", "expected numbers"),
        ("3 .1 .1 .2 .2 .3 .3", r"has class 3; expected 0\.\.2"),
        ("-1 .1 .1 .2 .2 .3 .3", "has class -1"),
        ("0.5 .1 .1 .2 .2 .3 .3", "has class 0.5"),
        ("nan .1 .1 .2 .2 .3 .3", "has class nan"),
        ("0 .1 .1 .2 .2 .3", "5 numbers behind its class"),
        ("0 .1 .1", "2 numbers behind its class"),
        ("0 10 10 20 20 30 30", "coordinate 10; expected shares.* pixels[?] .* width 45, y .* 31"),
        ("0 .1 .1 .2 200 .3 .3", "coordinate 200; expected shares of the image, 0 to 1$"),
        ("0 .1 .1 .2 nan .3 .3", "coordinate nan"),
        ("0 .1 .1 .2 inf .3 .3", "coordinate inf"),
    ],
)
def test_a_broken_line_raises(yolo, line, message):
    (yolo / "labels/train/two.txt").write_text(f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(DataError, match=rf"two\.txt: line 2 .*{message}"):
        load(f"{yolo}/data.yaml")


def test_nothing_is_written_over(source, yolo):
    with pytest.raises(DataError, match=r"images/train: is there already"):
        converted(source, yolo, "yolo")
    (yolo / "data.yaml").write_text("names: [other]\ntrain: images/train\n")
    with pytest.raises(DataError, match=r"data\.yaml: has other classes"):
        converted(source, yolo, "yolo", split="test")


def test_a_format_that_is_read_alone_raises(source, tmp_path):
    with pytest.raises(DataError, match="label_list is read alone"):
        converted(source, tmp_path / "new", "label_list")


def test_images_may_be_links(source, tmp_path):
    path, _ = converted(source, tmp_path / "new", "yolo", link=True, problem=raise_it)
    assert (tmp_path / "new/images/train/a/one.png").is_symlink()
    assert len(Catalog(tmp_path).read(path)) == 3
