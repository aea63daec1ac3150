"""Photographs in every kind of file: the same pixels from each, or an error that says why not."""

from __future__ import annotations

import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from segcore.data import pixels
from segcore.data.images import allow_pixels, image_size, read_image
from segcore.errors import ConfigError, DataError
from segcore.given_image import pixels_of

GREY = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8)
GREY[0, 0], GREY[0, 1] = 255, 0
SHOWN = np.dstack([GREY] * 3)
KINDS = {
    "full.png": GREY.astype(np.uint16) * 257,
    "bits10.png": GREY.astype(np.uint16) * 4,
    "bits12.png": GREY.astype(np.uint16) * 16,
    "bits12.tif": GREY.astype(np.uint16) * 16,
    "bits14.tif": GREY.astype(np.uint16) * 64,
    "eight_of_16.png": GREY.astype(np.uint16),
    "unit.tif": GREY.astype(np.float32) / 255,
    "float.tif": GREY.astype(np.float32),
    "int32.tif": GREY.astype(np.int32),
    "int32_full.tif": GREY.astype(np.int32) * 257,
    "plain.png": GREY,
    "plain.gif": GREY,
    "plain.bmp": GREY,
    "plain.pgm": GREY,
    "rgb.ppm": SHOWN,
    "rgb.webp": SHOWN,
    "rgb.jp2": SHOWN,
}


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_the_same_from_a_path_and_from_pillow(tmp_path, name):
    Image.fromarray(KINDS[name]).save(
        tmp_path / name, **({"lossless": True} if "webp" in name else {})
    )
    assert np.array_equal(read_image(tmp_path / name), SHOWN)
    assert np.array_equal(pixels_of(tmp_path / name, 0), SHOWN)
    assert np.array_equal(pixels_of(Image.fromarray(KINDS[name]), 0), SHOWN)
    with Image.open(tmp_path / name) as image:
        assert np.array_equal(pixels_of(image, 0), SHOWN)


def test_images_of_pillow_are_turned_as_files_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SHOWN).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        turned = pixels_of(image, 0)
    assert turned.shape == (9, 6, 3)
    assert np.array_equal(turned, read_image(tmp_path / "x.png"))


def test_a_guess_of_the_bits_warns_once(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(pixels, "_warned", set())
    for name in ("full.png", "bits12.png", "bits12.tif"):
        Image.fromarray(KINDS[name]).save(tmp_path / name)
    with caplog.at_level(logging.WARNING):
        read_image(tmp_path / "full.png")
        assert not caplog.records
        for name in ("bits12.png", "bits12.tif"):
            read_image(tmp_path / name)
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [str(tmp_path / "bits12.png")]
    assert "taken for 12 bits" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GREY.astype(np.float32) - 1, "float pixels from -1 to 254; expected 0 to 1, or 0 to 255"),
        (GREY.astype(np.float32) * 257, "float pixels from 0 to 65535"),
        (np.where(GREY == 0, np.nan, GREY).astype(np.float32), "float pixels from nan"),
        (GREY.astype(np.int32) - 9, "values from -9 to 246; expected 0 to 65535"),
        (GREY.astype(np.int32) * 70000, "values from 0 to 17850000; expected 0 to 65535"),
    ],
)
def test_values_whose_black_and_white_nobody_knows_raise(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"x\.tif: has {message}"):
        read_image(tmp_path / "x.tif")
    with pytest.raises(DataError, match=rf"image 3: has {message}"):
        pixels_of(Image.fromarray(values), 3)


def deep_png(content: bytes) -> bytes:
    """A PNG of 9 x 6 pixels with 16 bits a channel, which Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    rows = b"".join(b"\0" + content[i : i + 54] for i in range(0, len(content), 54))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".png", ".ppm"])
def test_colours_in_the_low_bits_of_16_raise(tmp_path, suffix):
    for shift in (8, 4):  # all bits, and 12 of them
        content = (SHOWN.astype(int) << shift).astype(">u2").tobytes()
        file = deep_png(content) if suffix == ".png" else b"P6 9 6 65535\n" + content
        (tmp_path / f"{shift}{suffix}").write_bytes(file)
    assert np.abs(read_image(tmp_path / f"8{suffix}").astype(int) - SHOWN).max() <= 1
    with pytest.raises(DataError, match=rf"4\{suffix}: has 16 bits a channel, of which only"):
        read_image(tmp_path / f"4{suffix}")


def test_files_that_pillow_does_not_read_say_what_to_do(tmp_path):
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"x\.heic: .*it is HEIC\); save it as JPEG or PNG"):
            read(tmp_path / "x.heic")


def test_the_largest_image_is_a_setting(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.new("1", (2000, 1000)).save(tmp_path / "x.png")
    allow_pixels({"SEGCORE_MAX_MEGAPIXELS": "1.5"})
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"x\.png: .*set SEGCORE_MAX_MEGAPIXELS, such as"):
            read(tmp_path / "x.png")
    allow_pixels({"SEGCORE_MAX_MEGAPIXELS": "2"})
    assert image_size(tmp_path / "x.png") == (1000, 2000)
    allow_pixels({})
    assert Image.MAX_IMAGE_PIXELS == 1_000_000
    for wrong in ("many", "-1", "nan", "inf"):
        with pytest.raises(ConfigError, match=f"SEGCORE_MAX_MEGAPIXELS is '{wrong}'; expected"):
            allow_pixels({"SEGCORE_MAX_MEGAPIXELS": wrong})
