"""Which files of a folder or a glob are images: of every kind, behind links, and what is none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from segcore.cli.predict_files import find_images
from segcore.data.images import read_image
from segcore.errors import DataError

KINDS = "avif bmp gif jfif JPG jp2 pgm png ppm tif webp".split()


def draw(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if name.endswith("jfif") else None
        grey = Image.new("L", (8, 6), 90)
        (grey if name.endswith("pgm") else grey.convert("RGB")).save(folder / name, kind)


def found(folder: Path, *inputs: Path | str) -> tuple[list[str], Counter[str]]:
    """Names below the folder, and what is passed over."""
    photos, others = find_images([str(path) for path in inputs], folder / "out")
    return [photo.file.relative_to(folder).as_posix() for photo in photos], others


def test_images_of_every_kind_are_found_and_read(tmp_path):
    draw(tmp_path, *(f"a.{kind}" for kind in KINDS))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x24ftypheic")  # said when it is read
    names, others = found(tmp_path, tmp_path)
    assert sorted(names) == sorted(f"a.{kind}" for kind in (*KINDS, "heic"))
    assert not others
    for kind in KINDS:
        assert abs(int(read_image(tmp_path / f"a.{kind}")[3, 4, 1]) - 90) < 3


def test_what_is_no_image_is_counted_and_what_macos_leaves_is_not(tmp_path):
    draw(tmp_path, "in/a.png", "in/deep/b.png", "out/c.png")
    others = "notes.txt", "deep/more.txt", "clip.MP4", "README", "._a.png", "__MACOSX/a.png"
    for name in others:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"\0\5\x16\7")
    expected = Counter({".txt": 2, ".mp4": 1, "README": 1})
    assert found(tmp_path, tmp_path / "in") == (["in/a.png", "in/deep/b.png"], expected)
    (tmp_path / "out/d.txt").touch()  # a result
    assert found(tmp_path, tmp_path)[1] == expected
    assert found(tmp_path, tmp_path / "in/*.png") == (["in/a.png"], Counter())
    names, others = found(tmp_path, tmp_path / "in/*")
    assert names == ["in/README", "in/a.png", "in/clip.MP4", "in/notes.txt"]  # asked for by name
    assert others == {"folder": 1}
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").touch()
    with pytest.raises(DataError, match=r"no image there \(but 1 others: \.txt\); give files"):
        found(tmp_path, tmp_path / "texts")


@pytest.mark.parametrize("pattern", ["", "**/*.png"])
def test_links_to_folders_are_followed_and_a_loop_ends(tmp_path, pattern):
    draw(tmp_path, "store/a.png", "photos/b.png")
    links = {"day1": "../store", "loop": ".", "up": "..", "a.png": "../store/a.png"}
    for name, goal in (links | {"dead.png": "nowhere.png"}).items():
        (tmp_path / "photos" / name).symlink_to(goal)
    names, _ = found(tmp_path, tmp_path / "photos" / pattern)
    assert {"photos/a.png", "photos/b.png", "photos/day1/a.png"} <= set(names)
    assert len(names) < 8
    if not pattern:
        assert "photos/dead.png" in names
        with pytest.raises(DataError, match=r"dead\.png: image not found"):
            read_image(tmp_path / "photos/dead.png")


def test_a_video_among_images_raises_the_option_for_it(tmp_path):
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(DataError, match=r"clip\.mp4: a video.* --video-input"):
        find_images([str(tmp_path / "clip.mp4")], tmp_path / "out")
