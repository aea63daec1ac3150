"""Folders of frames and id images become YouTube-VIS JSON."""

import json
import subprocess
import sys

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore import masks


def folders(home, videos):
    """Videos are {name: list of ids (H, W) or (H, W, 3), None for a frame without a mask}."""
    for name, shown in videos.items():
        for folder in ("frames", "masks"):
            (home / folder / name).mkdir(parents=True)
        for t, ids in enumerate(shown):
            size = (20, 30) if ids is None else ids.shape[:2]
            picture = Image.fromarray(np.zeros((*size, 3), np.uint8))
            picture.save(home / "frames" / name / f"f_{t:03d}.jpg")
            if ids is None:
                continue
            mask = Image.fromarray(ids.astype(np.uint8))
            if name == "davis" and ids.ndim == 2:  # a palette, whose entries are the numbers
                mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            mask.save(home / "masks" / name / f"f_{t:03d}.png")


def ids(**squares):
    """Numbers by object: o3=(4, 5) is a square of 6 pixels a side at row 4, column 5."""
    made = np.zeros((20, 30), np.int64)
    for name, (y, x) in squares.items():
        made[y : y + 6, x : x + 6] = int(name[1:])
    return made


def prepare(root, home, *more):
    words = ["--frames", "frames", "--masks", "masks", "--output", "out.json", "--workers", "1"]
    script = root / "datasets/prepare_video_masks.py"
    return subprocess.run(
        [sys.executable, script, *words, *more],
        cwd=home, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_palettes_colours_and_gaps(tmp_path, root):
    colour = np.zeros((20, 30, 3), np.int64)
    colour[2:8, 3:9] = (4, 1, 0)  # 260
    videos = {
        "davis": [ids(o1=(0, 0), o2=(9, 9)), None, ids(o2=(10, 12))],
        "other/one": [ids(o255=(1, 1))],
        "rgb": [colour, colour],
    }
    folders(tmp_path, videos)
    (tmp_path / "list.txt").write_text("davis\nrgb\n\n")
    done = prepare(root, tmp_path, "--videos", "list.txt")
    assert done.returncode == 0, done.stderr
    assert "1 frames have no mask" in done.stdout and "2 videos, 3 objects" in done.stdout
    metadata, (davis, rgb) = load(str(tmp_path / "out.json"))
    assert metadata.classes == ("object",) and davis.size == (20, 30)
    assert [f.file.name for f in davis.frames] == ["f_000.jpg", "f_002.jpg"]
    assert all(f.file.is_file() for f in davis.frames)
    assert [[s.track for s in f.segments] for f in davis.frames] == [[0, 1], [1]]
    for frame, truth in zip(davis.frames, (videos["davis"][0], videos["davis"][2]), strict=True):
        for segment in frame.segments:
            assert np.array_equal(masks.decode(segment.shape), truth == segment.track + 1)
    assert [len(f.segments) for f in rgb.frames] == [1, 1]
    entry = json.loads((tmp_path / "out.json").read_text())["annotations"][0]
    assert (entry["bboxes"], entry["areas"]) == ([[0, 0, 6, 6], None], [36, None])


def test_classes_by_video_or_by_object(tmp_path, root):
    folders(tmp_path, {"a": [ids(o1=(0, 0), o255=(12, 12))], "b": [ids(o1=(0, 0), o7=(9, 9))]})
    (tmp_path / "classes.yaml").write_text("a: car\nb: {1: person, 7: car}\nc: dog\n")
    done = prepare(root, tmp_path, "--classes", "classes.yaml", "--void", "255")
    assert done.returncode == 0, done.stderr
    metadata, records = load(str(tmp_path / "out.json"))
    assert metadata.classes == ("car", "person", "dog")  # whatever videos are there
    assert [[s.category for s in r.frames[0].segments] for r in records] == [[0], [1, 0]]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda home: (home / "frames/a/f_000.jpg").unlink(), "there is no frame f_000"),
        (lambda home: (home / "classes.yaml").write_text("b: car"), "what object 1 of video a is"),
        (
            lambda home: Image.new("RGB", (9, 9)).save(home / "frames/a/f_001.jpg"),
            "expected one size a video",
        ),
        (lambda home: (home / "masks/a/f_001.png").write_text("no"), "cannot be read as an image"),
    ],
)
def test_what_does_not_fit_ends_in_one_line(tmp_path, root, break_it, message):
    folders(tmp_path, {"a": [ids(o1=(0, 0)), ids(o1=(2, 2))]})
    (tmp_path / "classes.yaml").write_text("a: car")
    break_it(tmp_path)
    done = prepare(root, tmp_path, "--classes", "classes.yaml")
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out.json").exists()
