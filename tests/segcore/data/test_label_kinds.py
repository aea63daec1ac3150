"""Label images and panoptic PNGs in every kind of file: the right numbers, or an error."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore.data.views import StillViews
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.structures import Frame, Metadata, PngId, Record, Segment

COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
THREE = Metadata("mine", ("a", "b", "c"), (0, 1, 2), (False,) * 3, COLORS)
HUES = replace(THREE, colors=((9, 8, 7), (5, 4, 3), (7, 7, 8)))  # of no label image
LABELS = np.array([[0, 1, 2, 0], [2, 2, 1, 0]], np.uint8)
MOVED = np.array([1, 2, 0], np.uint8)[LABELS]  # 0 is entry 1 of a palette, 1 is 2, 2 is 0


def png(path, pixels, depth=8, palette=None):
    """A PNG as other programs write it: with few bits, or as entries of a palette."""

    def chunk(name, content):
        code = struct.pack(">I", zlib.crc32(name + content) & 0xFFFFFFFF)
        return struct.pack(">I", len(content)) + name + content + code

    height, width = pixels.shape
    bits = np.unpackbits(pixels[..., None], axis=2)[..., 8 - depth :].reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    kind = 0 if palette is None else 3
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    colors = b"" if palette is None else chunk(b"PLTE", bytes(np.array(palette, np.uint8).ravel()))
    parts = chunk(b"IHDR", head), colors, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def saved(path, pixels, mode=None):
    Image.fromarray(pixels, mode).save(path)
    return path


def classes(path, metadata=HUES):
    return semantic_map(Frame(Path("x.jpg"), semantic=path), metadata).tolist()


def grey(*values):
    return [[value] * 3 for value in values]


def test_values_of_crushed_label_images_are_those_of_the_plain_ones(tmp_path):
    assert classes(png(tmp_path / "palette.png", MOVED, 8, grey(2, 0, 1))) == LABELS.tolist()
    assert classes(png(tmp_path / "four.png", MOVED, 4, grey(2, 0, 1))) == LABELS.tolist()
    assert classes(png(tmp_path / "one.png", MOVED * 0, 8, grey(2))) == [[2] * 4] * 2
    for depth in (2, 4):
        assert classes(png(tmp_path / f"{depth}.png", LABELS, depth)) == LABELS.tolist()


def test_palettes_that_only_show_numbers_hold_them(tmp_path):
    two = (LABELS > 0).astype(np.uint8)
    assert classes(png(tmp_path / "a.png", two, 1, grey(0, 255))) == two.tolist()
    assert classes(png(tmp_path / "b.png", two, 8, grey(255, 0))) == two.tolist()
    assert classes(png(tmp_path / "c.png", LABELS, 8, grey(0, 128, 255))) == LABELS.tolist()
    voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert classes(png(tmp_path / "d.png", LABELS, 8, voc)) == LABELS.tolist()


def test_palettes_that_differ_between_files_raise(tmp_path):
    voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert classes(png(tmp_path / "a.png", LABELS, 8, voc)) == LABELS.tolist()
    other = png(tmp_path / "b.png", MOVED, 8, [voc[2], voc[0], voc[1]])
    with pytest.raises(DataError, match=r"b\.png: entry 0 .*\(0, 128, 0\), but \(0, 0, 0\) in .*a"):
        classes(other)
    known = replace(THREE, colors=tuple(tuple(color) for color in voc))
    assert classes(other, known) == LABELS.tolist()  # the classes' colours tell


def test_one_bit_beside_eight_raises(tmp_path):
    assert classes(png(tmp_path / "a.png", (LABELS > 1).astype(np.uint8), 1))[1][0] == 1
    with pytest.raises(DataError, match=r"a\.png: has 1 bit a pixel, and .*b\.png has 8"):
        classes(saved(tmp_path / "b.png", LABELS))


def test_label_images_of_several_channels(tmp_path):
    solid = np.full_like(LABELS, 255)
    assert classes(saved(tmp_path / "a.png", np.dstack([LABELS] * 3))) == LABELS.tolist()
    assert classes(saved(tmp_path / "b.png", np.dstack([LABELS, solid]))) == LABELS.tolist()
    with pytest.raises(DataError, match=r"c\.png: has transparent pixels"):
        classes(saved(tmp_path / "c.png", np.dstack([LABELS, solid - 1])))
    rgb = np.array(COLORS, np.uint8)[LABELS]
    rgb[0, 0] = 255  # ignored
    expected = [[-1, *LABELS[0, 1:].tolist()], LABELS[1].tolist()]
    assert classes(saved(tmp_path / "d.png", rgb), THREE) == expected
    with pytest.raises(DataError, match=r"d\.png: has colours, and 7 pixels .*list `colors`"):
        classes(tmp_path / "d.png")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".png"])
def test_label_images_that_lose_values_raise(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(LABELS).save(path, None if suffix != ".png" else "JPEG")
    with pytest.raises(DataError, match=r"changes values where classes meet; save .* PNG"):
        classes(path)


def test_label_images_of_lossless_webp_are_read(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "x.webp", lossless=True)
    assert classes(tmp_path / "x.webp") == LABELS.tolist()


# ---------------------------------------------------------------- panoptic PNGs


def ids(path, *numbers):
    segments = tuple(Segment(0, PngId(number)) for number in numbers)
    return frame_ids(Frame(Path("x.jpg"), segments, path)).tolist()


def test_ids_of_palettes_are_those_of_their_colours(tmp_path):
    colors = png(tmp_path / "colors.png", MOVED, 8, [[3, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert ids(colors, 1, 2, 3) == (LABELS + 1).tolist()
    assert ids(colors, 1, 3) == (LABELS + 1).tolist()
    large = png(tmp_path / "large.png", MOVED, 8, [[1, 2, 3], [0, 1, 0], [9, 0, 1]])
    assert ids(large, 256, 65545, 197121)[0] == [256, 65545, 197121, 256]
    assert ids(png(tmp_path / "grey.png", MOVED, 8, grey(3, 1, 2)), 1, 2) == (LABELS + 1).tolist()
    voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    assert ids(png(tmp_path / "places.png", LABELS, 8, voc), 1, 2) == LABELS.tolist()


def test_ids_of_few_bits(tmp_path):
    assert ids(png(tmp_path / "a.png", LABELS, 2), 0, 1, 2) == LABELS.tolist()
    assert ids(png(tmp_path / "b.png", LABELS, 2), 85, 170) == (LABELS * 85).tolist()
    assert ids(png(tmp_path / "c.png", LABELS // 2, 1), 255) == (LABELS // 2 * 255).tolist()


def test_exchanged_red_and_blue_raises(tmp_path):
    numbers = 65537, 131074, 196615  # the first one reads the same from either end
    rgb = np.array([[n % 256, n // 256 % 256, n // 65536] for n in numbers], np.uint8)[LABELS]
    saved(tmp_path / "rgb.png", rgb)
    saved(tmp_path / "bgr.png", rgb[..., ::-1].copy())
    saved(tmp_path / "x.jpg", rgb)
    views = StillViews(metadata=THREE, targets="panoptic", steps=(), min_size=0, max_size=9)
    segments = tuple(Segment(0, PngId(number)) for number in numbers)
    for name, right in (("rgb.png", True), ("bgr.png", False)):
        record = Record(0, (2, 4), (Frame(tmp_path / "x.jpg", segments, tmp_path / name),))
        if right:
            assert len(views(record, np.random.default_rng(0)).targets.labels) == 3
            continue
        with pytest.raises(DataError, match=r"bgr\.png: red and blue are exchanged"):
            views(record, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "image 01 lists segment 1 twice"),
        (-2, r"a segment of image 01 has id -2; expected 0 to 16777215"),
        (1 << 25, r"has id 33554432; expected 0 to 16777215"),
    ],
)
def test_ids_that_no_png_tells_apart_raise(tiny, tmp_path, number, message):
    content = json.loads((tiny / "panoptic.json").read_text())
    entry = content["annotations"][1]
    entry["segments_info"][0]["id"], entry["segments_info"][1]["id"] = 1, number
    content["annotations"][1]["image_id"] = content["images"][1]["id"]
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    (tmp_path / "panoptic").symlink_to(tiny / "panoptic")
    with pytest.raises(DataError, match=message.replace("image 01", f"image {entry['image_id']}")):
        load(f"{tmp_path}/panoptic.json@{tiny}/images")
