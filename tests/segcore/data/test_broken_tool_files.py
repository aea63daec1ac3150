"""Damaged files of annotation tools: counted, named, never a traceback, and the rest is read."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from converted import converted
from drawn_shapes import make_shapes
from PIL import Image

from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.data.problem import raise_it
from segcore.data.still_segments import with_masks
from segcore.errors import DataError

NOT_JSON = [
    b"",
    b"\0\0\0",
    b"{",
    b"nonsense",
    b"\xff\xfe\xfa",
    b"[" * 3000,
    b'{"a": 1e9999}',
    b"null",
]


def change(path: Path, old: str, new: str) -> None:
    """Replace the first match of a pattern."""
    text = path.read_text()
    changed, count = re.subn(old, lambda _: new, text, count=1)
    assert count, old
    path.write_text(changed)


def first(folder: Path, pattern: str) -> Path:
    """A file with a shape in it."""
    return next(p for p in sorted(folder.rglob(pattern)) if p.is_file() and "empty" not in p.name)


# of each format: the file that is broken, and changes: (pattern, replacement), or whole contents
CHANGES: dict[str, tuple[str, list[tuple[str, str] | bytes]]] = {
    "yolo": (
        "labels/**/*.txt",
        [
            *[("(?m)^0 ", f"{word} ") for word in ("x", "9", "-1", "1.5", "nan", "1e400", "None")],
            *[(r" 0\.\d+", f" {word}") for word in ("1.5", "-3", "nan", "inf", "x", "1,2", "1e30")],
            *[(r" 0\.\d+ 0\.\d+\n", f"{word}\n") for word in (" 0.1", " 0.2 0.3 0.4", " #")],
            *[
                (r"(?m)^0 [^\n]*\n", f"{word}\n")
                for word in ("0", "0 1", "0 1 1", "a b c", "0 \0 1")
            ],
            *[b"\xff\xfe\xfa", b"\x00", b"\xe4", b"<xml>", b"{}", b"0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"],
            *[b"0;0.1;0.1;0.2;0.2;0.3;0.3", b"box 0.1 0.1 0.2 0.2 0.3 0.3", b"1" * 5000, b"-"],
        ],
    ),
    "labelme": (
        "annotations/**/*.json",
        [
            *NOT_JSON,
            *[('"shapes": ', f'"shapes": {word}, "x": ') for word in ("null", "3", '"a"', "{}")],
            *[('"label": "[^"]*"', f'"label": {word}') for word in ("null", "3", '"other"', "[1]")],
            *[
                ('"points": ', f'"points": {word}, "x": ')
                for word in ("null", "3", "[1, 2]", "[[1]]", '[["a", 1]]', "[[NaN, 1], [1, 2]]")
            ],
            *[('"mask": "', f'"mask": {word}, "x": "') for word in ('"AAAA"', '"?"', "3", '"é"')],
            *[('"shape_type": "', f'"shape_type": {word}, "x": "') for word in ('"blob"', "3")],
            *[('"imageWidth": ', f'"imageWidth": {word}, "x": ') for word in ("0", "-3", '"a"')],
            *[('"imagePath": ', f'"imagePath": {word}, "x": ') for word in ("3", '""', "null")],
            ('"imageHeight": ', '"imageHeight": 99999999, "x": '),
            ('"group_id": ', '"group_id": [1], "x": '),
            ('"shapes": \\[', '"shapes": [null, 3, []], "x": ['),
        ],
    ),
    "cvat": (
        "annotations/*.xml",
        [
            *[b"", b"<", b"<annotations>", b"<a/>", b"\0", b"\xff\xfe\xfa", b"<annotations/>"],
            b'<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>',
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>',
            b'<?xml version="1.0" encoding="x-none"?><annotations/>',
            b"<annotations><track/></annotations>",
            b"<annotations>" + b"<a>" * 100 + b"</a>" * 100 + b"</annotations>",
            ("</annotations>", ""),
            *[(' width="40"', f' width="{word}"') for word in ("", "x", "0", "-1", "4e9", "1.5")],
            *[
                (' rle="', f' rle="{word}" x="')
                for word in ("", "x", "1", "-1, 2", "9" * 30, "1,,2")
            ],
            *[(' left="', f' left="{word}" x="') for word in ("", "x", "1.5", "1e8")],
            *[
                (' points="', f' points="{word}" x="')
                for word in ("", "x", "1,2;3", "nan,1;2,3;4,5")
            ],
            *[(' label="', f' label="{word}" x="') for word in ("", "other")],
            ("<image ", '<image name="a" x="'),
            ("<mask ", '<unknown label="box"/><mask '),
            (' name="two.png"', ' name="a/one.png"'),
        ],
    ),
    "label_studio": (
        "annotations/train.json",
        [
            *NOT_JSON,
            *[b"[]", b"{}", b"[1]", b'[{"data": {}}]', b'[{"annotations": 3, "data": {}}]'],
            *[('"image": "[^"]*"', f'"image": {word}') for word in ("3", "null", '"\\u0000"')],
            *[('"result": ', f'"result": {word}, "x": ') for word in ("3", "null", "[3]", "[{}]")],
            *[('"rle": ', f'"rle": {word}, "x": ') for word in ("3", "[]", "[1, 2]", '["a"]')],
            *[('"rle": ', f'"rle": {word}, "x": ') for word in ("[999]", "[0, 0, 20, 0, 7]")],
            *[('"points": ', f'"points": {word}, "x": ') for word in ("3", "[[1]]", '[["a", 2]]')],
            *[
                ('"original_width": ', f'"original_width": {word}, "x": ')
                for word in ('"a"', "0", "-3", "1e9", "null")
            ],
            ('"brushlabels": \\[', '"brushlabels": ["a", '),
            ('"brushlabels": \\[', '"brushlabels": [], "x": ['),
            ('"image_rotation": 0', '"image_rotation": 90'),
            ('"value": ', '"value": 3, "x": '),
        ],
    ),
}
CASES = [
    pytest.param(name, pattern, how, id=f"{name}-{i}")
    for name, (pattern, changes) in CHANGES.items()
    for i, how in enumerate(changes)
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By format: the folder of a data set and its path inside."""
    source, made = make_shapes(tmp_path_factory.mktemp("drawn")), {}
    for name in (*CHANGES, "mask_folders", "color_png"):
        folder = tmp_path_factory.mktemp(name)
        path, _ = converted(source, folder, name)
        made[name] = folder, Path(path).relative_to(folder)
    return made


def copied(whole, name, folder):
    """A copy, by hard links; its path as a data set."""
    start, path = whole[name]
    for file in start.rglob("*"):
        place = folder / file.relative_to(start)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(file.read_bytes())
    return folder / path


def check(path, name, folder):
    """The doctor counts it, training raises, both with a line that names a file."""
    catalog = Catalog(folder)
    examination = examine(catalog, f"{name}={path}")
    problems = [p for listed in examination.problems.values() for p in listed]
    assert problems
    assert all(p.message and str(folder) in p.message for p in problems), problems
    faults = [p for p in problems if p.effect == "fault"]
    if not faults:
        return
    with pytest.raises(DataError, match=re.escape(str(folder))):
        metadata = catalog.metadata(f"{name}={path}")
        for record in catalog.read(f"{name}={path}", raise_it):
            with_masks(record, metadata)


@pytest.mark.parametrize(("name", "pattern", "how"), CASES)
def test_damaged_files_are_counted_and_named(whole, tmp_path, name, pattern, how):
    path = copied(whole, name, tmp_path)
    file = first(tmp_path, pattern)
    if isinstance(how, bytes):
        file.write_bytes(how)
    else:
        change(file, *how)
    check(path, name, tmp_path)


# ---------------------------------------------------------------- PNGs


def encoded(pixels, kind="PNG"):
    """A file's content."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


WHOLE = encoded(np.random.default_rng(0).integers(0, 2, (32, 40)).astype(np.uint8) * 255)
IMAGES = [
    *[b"", b"\x89PNG", b"GIF89a", b"text", b"\0" * 99, b"%PDF-1.4", b"BM", b"II*\0"],
    *[WHOLE[:end] for end in (8, 16, 20, 33, 40, 50, len(WHOLE) // 2)],
    *[WHOLE[:place] + b"\xff\xff" + WHOLE[place + 2 :] for place in (0, 12, 18, 24, 28, 50)],
    *[encoded(np.zeros(size, np.uint8)) for size in ((1, 1), (40, 32), (32, 41), (33, 40))],
    encoded(np.zeros((32, 40), np.uint8), "JPEG"),
    WHOLE[:16] + struct.pack(">II", 1 << 20, 1 << 20) + WHOLE[24:],  # a bomb
]
CLASSES = [b"", b"{", b"[]", b"3", b'{"names": 3}', b'{"names": [[]]}', b'{"name": ["a"]}', b"\xff"]


@pytest.mark.parametrize("content", IMAGES, ids=range(len(IMAGES)))
@pytest.mark.parametrize("name", ["mask_folders", "color_png"])
def test_damaged_pngs_are_counted_and_named(whole, tmp_path, name, content):
    path = copied(whole, name, tmp_path)
    first(path, "**/*.png").write_bytes(content)
    check(path, name, tmp_path)


@pytest.mark.parametrize("content", CLASSES)
@pytest.mark.parametrize("name", ["mask_folders", "color_png"])
def test_damaged_class_lists_are_counted_and_named(whole, tmp_path, name, content):
    path = copied(whole, name, tmp_path)
    (tmp_path / "classes.json").write_bytes(content)
    check(path, name, tmp_path)


@pytest.mark.parametrize("color", [(1, 2, 3), (255, 0, 255), (0, 1, 0)])
def test_colours_of_no_class_raise(whole, tmp_path, color):
    path = copied(whole, "color_png", tmp_path)
    pixels = np.array(Image.open(file := path / "two.png"))
    pixels[3, 4] = color
    Image.fromarray(pixels).save(file)
    check(path, "color_png", tmp_path)


def test_masks_without_a_class_or_an_image_are_reported(whole, tmp_path):
    path = copied(whole, "mask_folders", tmp_path)
    (path / "two/box").rename(path / "two/other")
    (path / "a/one").rename(path / "a/three")
    catalog, problems = Catalog(tmp_path), []
    records = catalog.read(f"mask_folders={path}", problems.append)
    assert {r.id: len(r.frames[0].segments) for r in records} == {"empty": 0, "two": 1}
    assert [p.kind for p in problems] == ["masks without an image"] * 2 + ["category"] * 2
    assert f"{path}/two/other/0002.png: of which class is this mask?" in problems[2].message


def test_there_are_thirty_of_each():
    assert all(len(changes) >= 30 for _, changes in CHANGES.values())
    assert len(IMAGES) + len(CLASSES) >= 30
