"""Half-copied image files are found by their last bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.data import file_ends
from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.data.file_ends import end_fault

NOISE = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
SUFFIXES = ("jpg", "png", "gif", "webp", "bmp", "tif")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_have_no_fault_and_are_not_decoded(tmp_path, suffix, monkeypatch):
    Image.fromarray(NOISE).save(file := tmp_path / f"a.{suffix}")
    monkeypatch.setattr(file_ends, "read_image", None)
    assert not end_fault(file)


@pytest.mark.parametrize("suffix", SUFFIXES[:-1])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_was_cut_off_is_named(tmp_path, suffix, share):
    Image.fromarray(NOISE).save(file := tmp_path / f"a.{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert str(file) in end_fault(file)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_more_behind_the_end_is_no_fault(tmp_path, suffix):
    Image.fromarray(NOISE).save(file := tmp_path / f"a.{suffix}")
    file.write_bytes(file.read_bytes() + b"a camera's own data")
    assert not end_fault(file)


def test_the_doctor_finds_it_without_reading_pixels(tmp_path):
    make_dataset(tmp_path)
    name = json.loads((tmp_path / "instances.json").read_text())["images"][2]["file_name"]
    file = next(tmp_path.rglob(f"images/{name}"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    found = examine(Catalog(tmp_path), f"{tmp_path}/instances.json@{tmp_path}/images")
    assert found.counts == {"file that cannot be read": 1}
    assert str(file) in found.problems["file that cannot be read"][0].message
