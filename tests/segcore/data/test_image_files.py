"""Images and their sizes, in folders and in zip files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore.data.folders import image_folder
from segcore.data.images import image_size, read_image
from segcore.errors import DataError


def test_images_of_all_kinds_become_rgb(tmp_path):
    wide = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    Image.fromarray(wide).save(tmp_path / "16bit.png")
    Image.new("P", (4, 3)).save(tmp_path / "palette.png")
    Image.new("LA", (4, 3)).save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3)).save(tmp_path / "turned.jpg", exif=exif)
    for name in ("16bit.png", "palette.png", "alpha.png"):
        assert read_image(tmp_path / name).shape == (3, 4, 3)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 3, 3)
    assert read_image(tmp_path / "16bit.png")[2, 3, 0] == 55000 >> 8


def test_sizes_are_those_of_the_picture_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.new("RGB", (6, 4)).save(tmp_path / name, exif=exif)
        assert image_size(tmp_path / name) == (6, 4) == read_image(tmp_path / name).shape[:2]
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: whole.index(b"IDAT") + 4])
    assert image_size(tmp_path / "b.png") == (4, 6)  # no pixel is decoded


@pytest.mark.parametrize("inside", ["", "train/", "deep/train/"])
def test_images_in_a_zip_file(tiny, tmp_path, inside):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("readme.txt", "not an image")
        for file in sorted((tiny / "images").iterdir()):
            archive.write(file, f"{inside}{file.name}")
    for name in ("train.zip", "train"):  # the folder is asked for, its zip file is there
        _, records = load(f"{tiny}/instances.json@{tmp_path}/{name}")
        file = records[2].frames[0].file
        assert file == tmp_path / "train.zip" / inside / "02.png"
        assert np.array_equal(read_image(file), read_image(tiny / "images" / "02.png"))
        assert image_size(file) == records[2].size
    (tmp_path / "classes.json").write_text('["a", "b", "c"]')
    (tmp_path / "labels").symlink_to(tiny / "labels")
    _, records = load(f"{tmp_path}/labels@{tmp_path}/train.zip")
    assert [r.size for r in records][:2] == [(72, 64), (64, 80)]
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"broken\.zip: cannot be read as a zip"):
        image_folder(tmp_path / "broken.zip")


@pytest.mark.parametrize("place", [60, 400])
def test_damaged_zip_files_raise(tiny, tmp_path, place):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tiny / "images" / "00.png", "00.png")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip/00\.png: cannot be read as an image"):
        read_image(tmp_path / "x.zip" / "00.png")
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"x\.zip/01\.png: cannot be read as an image"):
        image_size(tmp_path / "x.zip" / "01.png")
