"""Video files: what is written comes back, and damage is counted."""

import shutil
import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from drawn_videos import RED, bouncing, moving_squares

from segcore.data import video_file
from segcore.data.problem import raise_it
from segcore.data.video_file import (
    KINDS,
    VideoWriter,
    encoder_for,
    join_videos,
    read_video,
    video_info,
)
from segcore.errors import ConfigError, DataError

RATE = Fraction(30000, 1001)


def write(path, images, encoder="libx264"):
    with VideoWriter(path, encoder=encoder, rate=RATE) as writer:
        for image in images:
            writer.write(image)
    return path


def noisy(count, size=(64, 96)):
    """Frames that take space."""
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, *size, 3), np.uint8))


@pytest.mark.parametrize("suffix", KINDS)
def test_parts_join_to_one_video(tmp_path, suffix):
    images = moving_squares(11, [(RED, bouncing)], size=(63, 95))  # odd sizes are padded
    encoder = encoder_for(tmp_path / f"x{suffix}")
    cuts = ((0, 4), (4, 5), (5, 11))
    parts = [write(tmp_path / f"{a}.part", images[a:b], encoder) for a, b in cuts]
    goal = tmp_path / f"whole{suffix}"
    join_videos(parts, goal, RATE)
    info = video_info(goal)
    assert info.count == 11 and float(info.rate) == pytest.approx(RATE, rel=0.01)
    frames = list(read_video(goal, raise_it))
    assert [frame.index for frame in frames] == list(range(11))
    for frame, image in zip(frames, images, strict=True):
        assert frame.image.shape == (64, 96, 3)
        assert abs(frame.image[:63, :95].astype(int) - image).mean() < 6
    assert [frame.index for frame in read_video(goal, raise_it, start=9)] == [9, 10]


def test_a_video_that_is_cut_short_gives_what_it_has(tmp_path):
    whole = write(tmp_path / "whole.mp4", noisy(12))
    join_videos([whole], tmp_path / "whole.mkv", RATE)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert 3 <= len(list(read_video(tmp_path / "cut.mkv", raise_it))) <= 7  # nobody promised more
    content = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.mp4: cannot be opened .* cut short"):
        list(read_video(tmp_path / "cut.mp4", raise_it))


def test_damage_in_the_middle_is_counted(tmp_path):
    path = write(tmp_path / "a.mp4", noisy(12))
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : third + 3000] = bytes(3000)
    path.write_bytes(content)
    problems = []
    frames = list(read_video(path, problems.append))
    assert 6 < len(frames) < 12
    (problem,) = problems
    assert f"{len(frames)} of 12 frames could be decoded" in problem.message


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "video not found"), (b"no video", "cannot be opened as a video")],
)
def test_what_is_no_video_raises(tmp_path, content, message):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        video_info(path)


def test_a_kind_without_encoder_raises(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"\.xyz: no video .*expected \.mp4"):
        encoder_for(tmp_path / "a.xyz")
    monkeypatch.setitem(video_file.KINDS, ".mp4", ("mp4", ("no_such_encoder", "h264")))
    assert encoder_for(tmp_path / "a.mp4")  # "h264" decodes, and names an encoder that is there
    monkeypatch.setitem(video_file.KINDS, ".mp4", ("mp4", ("no_such_encoder",)))
    with pytest.raises(ConfigError, match="needs one of the encoders no_such_encoder"):
        encoder_for(tmp_path / "a.mp4")


def test_parts_that_differ_do_not_join(tmp_path):
    parts = [write(tmp_path / "a", noisy(2)), write(tmp_path / "b", noisy(2, (32, 32)))]
    with pytest.raises(DataError, match="encoded otherwise"):
        join_videos(parts, tmp_path / "whole.mp4", RATE)
    assert not list(tmp_path.glob("whole*"))
    shutil.copy(parts[0], parts[1])
    join_videos(parts, tmp_path / "whole.mp4", RATE)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'segcore\[video\]'"):
        video_info(tmp_path / "a.mp4")


def test_a_video_is_turned_as_its_camera_says(tmp_path):
    """A telephone held upright writes lying frames, and how to turn them."""
    image = np.full((64, 96, 3), 100, np.uint8)
    image[:20, :30] = RED  # top left, and top right when turned clockwise
    path = write(tmp_path / "a.mp4", [image])
    one, none = struct.pack(">i", 1 << 16), bytes(4)
    lying = one + none * 3 + one + none * 3 + struct.pack(">i", 1 << 30)
    upright = none + one + none + struct.pack(">i", -(1 << 16)) + lying[16:32].replace(one, none)
    content = path.read_bytes()
    start = content.index(lying, content.index(b"tkhd"))
    turned = upright + lying[32:]
    assert len(turned) == len(lying)
    path.write_bytes(content[:start] + turned + content[start + len(lying) :])
    (frame,) = read_video(path, raise_it)
    assert frame.image.shape == (96, 64, 3)
    assert abs(frame.image[5:25, -15:-5].astype(int) - RED).mean() < 10
    assert abs(frame.image[5:25, 5:15].astype(int) - 100).mean() < 10
