"""Images that are read to their last pixel: broken ones, turned ones, and those seen before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_images import scene
from PIL import Image

from segcore.data.store import Records
from segcore.doctor.duplicates import (
    NEAR,
    NEAR_IN_TWO,
    SAME,
    SAME_IN_TWO,
    Place,
    duplicates,
    near_images,
    same_files,
    same_images,
)
from segcore.doctor.images import BROKEN, image_findings
from segcore.doctor.pixels import look_at, look_at_all
from segcore.structures import Frame, Record


def save(path: Path, image: np.ndarray, *, turn: int = 1, **more) -> Path:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(image).save(path, exif=exif, **more)
    return path


def findings_of_image(path: Path, size=None):
    """Severity by check of one image whose annotation says `size`."""
    look = look_at(path)
    records = Records([Record(1, size or look.size, (Frame(path),))])
    found = list(image_findings([(path, 0)], [look], records, "data"))
    return {f.check: f.severity for f in found}


def test_half_a_jpeg_is_an_error(tmp_path):
    path = save(tmp_path / "a.jpg", scene(0, (480, 640)))
    assert not findings_of_image(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert findings_of_image(path, (480, 640)) == {BROKEN: "error"}
    assert str(path) in look_at(path).fault


@pytest.mark.parametrize(
    ("turn", "size", "expected"),
    [
        (1, None, {}),
        (6, None, {"EXIF turn": "note"}),
        (6, (48, 64), {"annotation of an image without its EXIF turn": "error"}),
        (3, None, {"EXIF turn that sizes cannot confirm": "warning"}),
    ],
)
def test_exif_turns(tmp_path, turn, size, expected):
    path = save(tmp_path / "a.jpg", scene(0), turn=turn)
    assert findings_of_image(path, size) == expected


def test_a_turned_square_is_doubtful(tmp_path):
    path = save(tmp_path / "a.jpg", scene(0, (40, 40)), turn=6)
    assert findings_of_image(path) == {"EXIF turn that sizes cannot confirm": "warning"}


def found(places, looks):
    """Severity and count by check and data set."""
    pairs = same_images(places, looks), near_images(looks)
    return {(f.check, f.data): (f.severity, f.count) for f in duplicates(places, *pairs)}


def test_the_same_and_nearly_the_same_images(tmp_path):
    first, large = scene(0, (96, 128)), scene(1, (96, 128))
    files = [
        save(tmp_path / "a.png", first),
        save(tmp_path / "a_again.png", first, compress_level=1),  # other bytes, equal pixels
        save(tmp_path / "b.png", large),
        save(tmp_path / "b_small.jpg", large[::2, ::2], quality=60),
        save(tmp_path / "c.png", scene(2)),
        save(tmp_path / "black.png", np.zeros((48, 64, 3), np.uint8)),
        save(tmp_path / "dark.png", np.full((48, 64, 3), 3, np.uint8)),
    ]
    looks = [look_at(file) for file in files]
    one = [Place("train", file) for file in files]
    assert found(one, looks) == {(SAME, "train"): ("warning", 1), (NEAR, "train"): ("note", 1)}
    two = [Place("val" if i in (1, 3) else "train", file) for i, file in enumerate(files)]
    assert found(two, looks) == {
        (SAME_IN_TWO, "val"): ("warning", 1),
        (NEAR_IN_TWO, "val"): ("warning", 1),
    }
    different = [i for i in range(len(files)) if i not in (1, 3)]
    assert not found([one[i] for i in different], [looks[i] for i in different])


def test_one_file_in_two_data_sets_needs_no_pixels(tmp_path):
    places = [Place("train", tmp_path / "a"), Place("train", tmp_path / "b")]
    assert not same_files([*places, Place("val", tmp_path / "c")])
    assert same_files([*places, Place("val", tmp_path / "b")]) == [(1, 2)]


def test_all_files_are_looked_at_in_order(tmp_path):
    files = [save(tmp_path / f"{i}.png", scene(i)) for i in range(20)]
    files.insert(7, tmp_path / "nowhere.png")
    seen = []

    def watch(looks, total):
        seen.append(total)
        return looks

    looks = look_at_all(files, watch)
    assert seen == [21] and looks == [look_at(file) for file in files]
    assert [i for i, look in enumerate(looks) if look.fault] == [7]
