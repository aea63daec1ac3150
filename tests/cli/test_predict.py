"""`segcore predict`: whose results go where, what is never overwritten, and how mistakes end."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.cli import predict
from segcore.errors import DataError

OPTIONS = {"config_file": "tiny/panoptic_tiny.yaml", "weights": "", "threshold": 0.5}
OPTIONS |= {"batch_size": 1, "num_crops": None, "overwrite": False, "refine": None}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def segment(catalog):
    """Run it in this process, with random weights."""
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]

    def run(*inputs, output):
        named = {"inputs": [str(path) for path in inputs], "output": output, "opts": opts}
        return predict.main(**OPTIONS, **named)

    return run


def draw(folder, *names):
    """Small images, no two alike; their contents."""
    pixels = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(0, 256, (32, 40, 3), np.uint8)).save(folder / name)
    return {name: (folder / name).read_bytes() for name in names}


def owners(output):
    """Which image each JSON file is about, by its name."""
    images = {}
    for path in output.rglob("*.json"):
        content = json.loads(path.read_text())
        named = [content[kind]["file_name"] for kind in ("panoptic", "semantic")]
        assert all((path.parent / name).is_file() for name in named)
        images[path.relative_to(output).as_posix()] = Path(content["file_name"]).name
    return images


def test_its_own_pictures_are_not_its_next_images(segment, tmp_path, capsys):
    photos = draw(tmp_path, "a.png", "b.jpg")
    for _ in range(2):
        assert segment(tmp_path, output=tmp_path / "out") == 0
        assert segment(tmp_path / "*", tmp_path / "**/*.png", output=tmp_path / "out") == 0
    assert "2 of 2 are done already" in capsys.readouterr().out
    assert owners(tmp_path / "out") == {"a.json": "a.png", "b.json": "b.jpg"}
    assert {name: (tmp_path / name).read_bytes() for name in photos} == photos


def test_photographs_are_never_overwritten(segment, tmp_path):
    photos = draw(tmp_path, "a.png", "b.jpg", "b.png", "c.bmp", "c_panoptic.png")
    for named in (["a.png"], ["b.jpg", "b.png"], ["c.bmp", "c_panoptic.png"]):
        with pytest.raises(DataError, match="is an input that the results of"):
            segment(*(tmp_path / name for name in named), output=tmp_path)
    for folder in (tmp_path, tmp_path / "*.png"):
        with pytest.raises(DataError, match="below --output"):
            segment(folder, output=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == photos
    for _ in range(2):  # b.png is no input here, but not a result either
        assert segment(tmp_path / "b.jpg", output=tmp_path) == 0
    assert owners(tmp_path) == {"b_jpg.json": "b.jpg"}
    assert {name: (tmp_path / name).read_bytes() for name in photos} == photos


def test_names_with_dots_keep_their_results_apart(segment, tmp_path):
    draw(tmp_path / "in", "frame.0001.png", "frame.0002.png", "photo.jpg")
    assert segment(tmp_path / "in", output=tmp_path / "out") == 0
    assert owners(tmp_path / "out") == {
        "frame.0001.json": "frame.0001.png",
        "frame.0002.json": "frame.0002.png",
        "photo.json": "photo.jpg",
    }
    assert (tmp_path / "out/photo.png").exists()


def test_names_that_others_make_are_left_to_them(segment, tmp_path):
    """x_panoptic.png is a result of x.png, and would be one of x_panoptic.png."""
    draw(tmp_path / "in", "x.png", "x_panoptic.png", "y.jpg", "y.png")
    for inputs in (["x.png", "y.png"], ["x_panoptic.png", "y.jpg"]):
        assert (
            segment(*(tmp_path / "in" / name for name in inputs), output=tmp_path / "two runs") == 0
        )
    assert owners(tmp_path / "two runs") == {
        "x.json": "x.png",
        "x_panoptic_png.json": "x_panoptic.png",
        "y.json": "y.png",
        "y_jpg.json": "y.jpg",
    }
    assert segment(tmp_path / "in", output=tmp_path / "one run") == 0
    assert owners(tmp_path / "one run") == {
        "x_png.json": "x.png",
        "x_panoptic_png.json": "x_panoptic.png",
        "y_png.json": "y.png",
        "y_jpg.json": "y.jpg",
    }


def test_images_that_come_later_move_no_results(segment, tmp_path, capsys):
    draw(tmp_path, "a/i.png", "c/i.png")
    folders = [tmp_path / "a", tmp_path / "c"]
    assert segment(*folders, output=tmp_path / "out") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {path.parent.name for path in before} == {"a", "c"}
    draw(tmp_path, "b/i.png")
    folders.insert(1, tmp_path / "b")
    assert segment(*folders, output=tmp_path / "out") == 0
    assert "2 of 3 are done already" in capsys.readouterr().out
    assert all(path.read_bytes() == content for path, content in before.items())
    assert owners(tmp_path / "out") == dict.fromkeys(
        ["a/i_png.json", "c/i_png.json", "i.json"], "i.png"
    )
    assert json.loads((tmp_path / "out/i.json").read_text())["file_name"].endswith("b/i.png")


def test_folders_below_the_input_are_kept(segment, tmp_path):
    draw(tmp_path / "in", "a/i.png", "b/i.png")
    for pattern, output in ((tmp_path / "in", "one"), (tmp_path / "in/*/i.png", "other")):
        assert segment(pattern, output=tmp_path / output) == 0
        assert owners(tmp_path / output) == {"a/i.json": "i.png", "b/i.json": "i.png"}


def test_only_its_own_json_means_that_an_image_is_done(segment, tmp_path):
    draw(tmp_path / "in", "a.png")
    theirs = tmp_path / "out" / "a.json"
    theirs.parent.mkdir()
    theirs.write_text('{"shapes": []}')  # of an annotation program
    assert segment(tmp_path / "in", output=tmp_path / "out") == 0
    assert theirs.read_text() == '{"shapes": []}'
    assert json.loads((tmp_path / "out/a_png.json").read_text())["file_name"].endswith("a.png")


def test_an_output_that_cannot_be_written_raises(segment, tmp_path):
    draw(tmp_path / "in", "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"--output .*file: cannot be a directory"):
        segment(tmp_path / "in", output=tmp_path / "file")
    blocked = tmp_path / "out/a.json.tmp"
    blocked.mkdir(parents=True)  # fails as a full disk does: with OSError
    with pytest.raises(DataError, match=r"cannot be written .*start again"):
        segment(tmp_path / "in", output=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [blocked]
    blocked.rmdir()
    assert segment(tmp_path / "in", output=tmp_path / "out") == 0
    assert owners(tmp_path / "out") == {"a.json": "a.png"}


def test_directories_are_no_images(segment, tmp_path):
    draw(tmp_path / "in", "a.png", "folder/b.png")
    (tmp_path / "in/folder.png").mkdir()
    assert segment(tmp_path / "in/*", output=tmp_path / "glob") == 0
    assert owners(tmp_path / "glob") == {"a.json": "a.png"}
    assert segment(tmp_path / "in", output=tmp_path / "directory") == 0
    assert owners(tmp_path / "directory") == {"a.json": "a.png", "folder/b.json": "b.png"}


def test_what_is_passed_over_and_what_is_skipped_is_said(segment, tmp_path, capsys):
    draw(tmp_path / "in", "a.jp2")
    (tmp_path / "in/a.heic").write_bytes(b"\0\0\0\x24ftypheic")
    for name in ("a.txt", "b.txt", "clip.mp4"):
        (tmp_path / "in" / name).touch()
    assert segment(tmp_path / "in", output=tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "passed over what is no image: 2 .txt, 1 .mp4" in said.err
    assert "it is HEIC); save it as JPEG or PNG" in said.err
    assert "1 images done, 1 skipped" in said.out
