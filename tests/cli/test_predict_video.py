"""`segcore predict --video-input`: what is written, how it stops and goes on, how mistakes end."""

import gc
import json
import signal
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from drawn_videos import BLUE, RED, bouncing, color_options, moving_squares
from PIL import Image
from tiny import make_dataset

from segcore.cli import predict_video
from segcore.data.problem import raise_it
from segcore.data.video_file import KINDS, VideoWriter, read_video
from segcore.errors import ConfigError, DataError
from segcore.visualize import draw_tracks

OPTIONS = {"config_file": None, "weights": "", "threshold": 0.5, "batch_size": 1}
OPTIONS |= {"num_crops": None, "overwrite": False, "refine": None, "window": 8, "overlap": 2}
OPTIONS |= {"fps": 10.0, "save_frames": False, "no_video": False}
CHILD = """
import json, os, sys
from pathlib import Path
from segcore.cli import predict_video

frame_number, signal, part_frames, given = json.loads(sys.argv[1])
draw = predict_video.draw_tracks

def draw_and_die(frame, *args, **named):
    if frame.index == frame_number:
        os.kill(os.getpid(), signal)
    return draw(frame, *args, **named)

predict_video.draw_tracks, predict_video.PART_FRAMES = draw_and_die, part_frames
sys.exit(predict_video.main(**given | {"output": Path(given["output"])}))
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture
def segment(catalog):
    """Run it in this process, with a model that knows colours."""

    def run(*videos, output, clips=True, **named):
        opts = color_options(catalog, clips)
        given = {"videos": [str(v) for v in videos], "output": output, "opts": opts}
        return predict_video.main(**OPTIONS | given | named)

    return run


def scene(count):
    return moving_squares(
        count, [(RED, lambda t: bouncing(t, row=40)), (BLUE, lambda t: (8, 60) if t > 9 else None)]
    )


def write_video(path, images):
    with VideoWriter(path, encoder="libx264", rate=Fraction(25)) as writer:
        for image in images:
            writer.write(image)
    return path


def write_frames(folder, images):
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def result_of(path):
    return json.loads(path.read_text())


def test_a_video_becomes_a_video_and_its_tracks(segment, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.mp4", scene(30))
    assert segment(clip, output=tmp_path / "out", save_frames=True) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "clip", "clip.json", "clip.mp4"
    ]  # fmt: skip
    result = result_of(tmp_path / "out/clip.json")
    assert (result["frames"], result["rate"], result["complete"]) == (30, 25.0, True)
    red, blue = result["tracks"]
    assert (red["category"], red["first_frame"], len(red["segmentations"])) == ("box", 0, 30)
    assert (blue["category"], blue["first_frame"], len(blue["segmentations"])) == ("ground", 10, 20)
    assert set(red["segmentations"][0]) == {"size", "counts"}
    drawn = list(read_video(tmp_path / "out/clip.mp4", raise_it))
    assert len(drawn) == 30
    pictures = sorted((tmp_path / "out/clip").iterdir())
    assert [p.name for p in pictures] == [f"{n:06d}.png" for n in range(30)]
    for frame, picture in zip(drawn, pictures, strict=True):
        assert abs(frame.image.astype(int) - np.asarray(Image.open(picture))).mean() < 6
    assert segment(clip, output=tmp_path / "out") == 0
    assert "nothing left to do" in capsys.readouterr().out


def test_a_track_keeps_its_colour(segment, tmp_path):
    """Red appears at the left, blue is better or worse than it as time goes by."""
    clip = write_frames(tmp_path / "clip", scene(30))
    assert segment(clip, output=tmp_path / "out", save_frames=True) == 0
    colors = set()
    for number in range(12, 30):
        y, x = bouncing(number, row=40)
        picture = np.asarray(Image.open(tmp_path / f"out/clip/{number:06d}.png"))
        colors.add(tuple(picture[y + 13, x + 13]))
    assert len(colors) == 1


def test_a_folder_of_frames_and_a_named_output(segment, tmp_path):
    frames = write_frames(tmp_path / "frames", scene(9))
    assert segment(frames, output=tmp_path / "drawn.mkv", fps=12.5) == 0
    assert segment(frames, output=tmp_path / "out", no_video=True) == 0
    assert result_of(tmp_path / "drawn.json")["rate"] == 12.5
    assert len(list(read_video(tmp_path / "drawn.mkv", raise_it))) == 9
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["frames.json"]
    one, other = (result_of(tmp_path / name) for name in ("drawn.json", "out/frames.json"))
    assert one["tracks"] == other["tracks"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "part_frames", "done"),
    [(signal.SIGTERM, 250, 26), (signal.SIGKILL, 8, 20)],
)
def test_stopped_half_way_it_is_playable_and_goes_on(
    segment, catalog, root, tmp_path, capsys, number, part_frames, done
):
    clip = write_video(tmp_path / "clip.mp4", scene(70))
    given = {"videos": [str(clip)], "output": str(tmp_path / "out"), "opts": color_options(catalog)}
    words = json.dumps([25, number, part_frames, OPTIONS | given])
    code = f"import sys; sys.path[:0] = ['.', 'tests']\n{CHILD}"
    child = subprocess.run([sys.executable, "-c", code, words], cwd=root, check=False)
    parts = tmp_path / "out/clip.parts"
    if number == signal.SIGTERM:
        assert child.returncode == 128 + number
        played = [*read_video(tmp_path / "out/clip.mp4", raise_it)]
        assert result_of(tmp_path / "out/clip.json")["frames"] == done
        assert not result_of(tmp_path / "out/clip.json")["complete"]
    else:
        assert child.returncode == -number
        played = [f for part in sorted(parts.glob("*.json"))
                  for f in read_video(part.with_suffix(".mp4"), raise_it)]  # fmt: skip
    assert len(played) == done
    assert segment(clip, output=tmp_path / "out", window=6) == 1
    assert "begun with other windows; give the same" in capsys.readouterr().err
    assert segment(clip, output=tmp_path / "out") == 0
    assert segment(clip, output=tmp_path / "whole") == 0
    assert result_of(tmp_path / "out/clip.json") == result_of(tmp_path / "whole/clip.json")
    assert len(list(read_video(tmp_path / "out/clip.mp4", raise_it))) == 70
    assert not parts.exists()


@pytest.mark.slow
def test_no_frame_of_a_part_is_held_when_it_is_written(segment, tmp_path, monkeypatch):
    """A frame takes 18 KB: one of each of the parts between would show."""
    clip = write_video(tmp_path / "clip.mp4", scene(112))
    held, close = [], predict_video.PartWriter.close

    def close_and_measure(part, progress):
        close(part, progress)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(predict_video.PartWriter, "close", close_and_measure)
    monkeypatch.setattr(predict_video, "PART_FRAMES", 8)
    tracemalloc.start()
    try:
        assert segment(clip, output=tmp_path / "out") == 0
    finally:
        tracemalloc.stop()
    assert len(held) > 8 and held[-2] - held[2] < 64_000


def test_what_cannot_be_read_is_counted_and_nothing_else_is_lost(segment, tmp_path, capsys):
    whole = write_video(tmp_path / "whole.mp4", scene(12))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-800])
    frames = write_frames(tmp_path / "frames", scene(12))
    Image.fromarray(scene(1)[0][:32]).save(frames / "4.png")
    (frames / "7.png").write_bytes(b"no image")
    assert segment(cut, frames, whole, output=tmp_path / "out", no_video=True) == 1
    written = capsys.readouterr().err
    for words in (
        "cut short",
        "4.png: frame 4 is 96 x 32",
        "7.png: cannot be read",
    ):
        assert words in written
    assert not (tmp_path / "out/cut.json").exists()
    assert result_of(tmp_path / "out/whole.json")["frames"] == 12
    result = result_of(tmp_path / "out/frames.json")
    assert result["frames"] == 12 and len(result["skipped"]) == 2
    absent = [i for i, mask in enumerate(result["tracks"][0]["segmentations"]) if mask is None]
    assert absent == [4, 7]


def test_what_is_not_its_own_is_never_overwritten(segment, tmp_path, capsys):
    clip = write_video(tmp_path / "clip.mp4", scene(3))
    content = clip.read_bytes()
    for output in (tmp_path, clip):
        with pytest.raises(DataError, match="would replace it; name another --output"):
            segment(clip, output=output)
    (tmp_path / "out").mkdir()
    for name in ("clip.mp4", "clip.json"):
        (tmp_path / "out" / name).write_text("{}")
        with pytest.raises(DataError, match="is there and of something else"):
            segment(clip, output=tmp_path / "out")
        (tmp_path / "out" / name).unlink()
    assert clip.read_bytes() == content
    assert segment(clip, output=tmp_path / "out") == 0
    done = result_of(tmp_path / "out/clip.json")
    assert segment(clip, output=tmp_path / "out", threshold=0.9) == 0
    assert "made with other confidence threshold: done anew" in capsys.readouterr().out
    again = result_of(tmp_path / "out/clip.json")
    assert again["made_by"] == done["made_by"] | {"confidence_threshold": 0.9}
    assert again["tracks"] == done["tracks"]


def test_equal_names_are_kept_apart(segment, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    clips = [write_video(tmp_path / f"{x}/clip.mp4", scene(3)) for x in "ab"]
    assert segment(*clips, output=tmp_path / "out", no_video=True) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_clip_mp4.json", "b_clip_mp4.json"
    ]  # fmt: skip
    with pytest.raises(DataError, match="is one video, for 2"):
        segment(*clips, output=tmp_path / "out.mp4")


def test_mistakes_are_told_before_anything_is_done(segment, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", scene(3))
    with pytest.raises(ConfigError, match=r"--fps 0.* above 0"):
        segment(clip, output=tmp_path / "out", fps=0.0)
    monkeypatch.setitem(KINDS, ".webm", ("webm", ("no_such_encoder",)))
    with pytest.raises(ConfigError, match=r"drawn\.webm: \.webm needs one of the encoders"):
        segment(clip, output=tmp_path / "drawn.webm")
    with pytest.raises(ConfigError, match=r"drawn\.wmv: no video .* expected \.mp4"):
        segment(clip, output=tmp_path / "drawn.wmv")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_photographs_of_a_real_clip_become_a_video(segment, shared_data, tmp_path):
    clip = shared_data / "davis16_clips/val/JPEGImages/goat"
    assert segment(clip, output=tmp_path / "out", fps=6.0) == 0
    frames = list(read_video(tmp_path / "out/goat.mp4", raise_it))
    assert [frame.image.shape for frame in frames] == [(480, 854, 3)] * 8
    result = result_of(tmp_path / "out/goat.json")
    assert (result["frames"], result["rate"], result["size"]) == (8, 6.0, [480, 854])


@pytest.mark.parametrize("clips", [True, False])
def test_a_full_disk_costs_no_more_than_the_part_that_was_open(
    segment, tmp_path, monkeypatch, clips
):
    clip = write_frames(tmp_path / "clip", scene(24))
    (clip / "21.png").write_bytes(b"no image")

    def draw_until_the_disk_is_full(frame, *given, **named):
        if frame.index == 19:
            raise OSError(28, "No space left on device")
        return draw_tracks(frame, *given, **named)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(predict_video, "draw_tracks", draw_until_the_disk_is_full)
        patch.setattr(predict_video, "PART_FRAMES", 6)
        segment(clip, output=tmp_path / "out", clips=clips, batch_size=3)
    parts = sorted((tmp_path / "out/clip.parts").glob("*.json"))
    assert len(parts) >= 2
    assert segment(clip, output=tmp_path / "out", clips=clips, batch_size=3) == 1
    assert segment(clip, output=tmp_path / "whole", clips=clips, batch_size=3) == 1
    assert result_of(tmp_path / "out/clip.json") == result_of(tmp_path / "whole/clip.json")
    assert len(list(read_video(tmp_path / "out/clip.mp4", raise_it))) == 23
