"""The Python API of videos: clips, tracks, streams."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_videos import BLUE, RED, bouncing, color_predictor, moving_squares
from PIL import Image
from tiny import make_dataset

from segcore import masks
from segcore.errors import ConfigError, DataError
from segcore.predict import Predictor


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


def red_and_blue(count):
    there = (8, 60)
    return moving_squares(
        count, [(RED, lambda t: bouncing(t, row=40)), (BLUE, lambda t: there if t > 12 else None)]
    )


def test_a_moving_shape_keeps_its_id_through_ten_windows(catalog):
    predictor = color_predictor(catalog)
    video = red_and_blue(8 + 9 * 6)
    frames = list(predictor.video(video, window=8, overlap=2, threshold=0.5))
    assert predictor.task.model.calls == [8] * 10
    assert [frame.index for frame in frames] == list(range(62))
    reds = set()
    for frame, image in zip(frames, video, strict=True):
        assert frame.image is image
        by_label = dict(zip(frame.labels.tolist(), frame.ids.tolist(), strict=True))
        reds.add(by_label[0])
        index = frame.labels.tolist().index(0)
        truth = (image == RED).all(2)
        shown = masks.decode(frame.masks[index])
        assert (shown & truth).sum() / (shown | truth).sum() > 0.8
    assert reds == {1}
    assert {i for frame in frames for i in frame.ids.tolist()} == {1, 2}
    assert [len(frame.ids) for frame in frames] == [1] * 13 + [2] * 49


def test_models_of_images_give_tracks_too(catalog):
    predictor = color_predictor(catalog, clips=False)
    tracks = predictor.tracks(red_and_blue(40))
    sure = tracks.scores > 0.5
    assert tracks.labels[sure].tolist() == [0, 2] and set(predictor.task.model.calls) == {1}
    area = np.array([masks.area(track) for track in tracks.masks])[sure.numpy()]
    assert (area > 0).sum(1).tolist() == [40, 27]
    with pytest.raises(ConfigError, match=r"outside\.colors:build looks at images one by one"):
        predictor.clip(red_and_blue(2))


def test_one_window_equals_the_published_result(catalog):
    predictor = color_predictor(catalog)
    video = red_and_blue(20)
    outputs = predictor.clip(video)
    assert outputs.layers[-1].logits.shape == (1, 3, 4)
    assert outputs.layers[-1].masks.shape == (1, 3, 20, 16, 24)
    tracks = predictor.tracks(video)
    frames = list(predictor.video(video, window=20))
    assert predictor.task.model.calls == [20] * 3
    listed = masks_by_id(frames)
    shown = [i for i, track in enumerate(tracks.masks) if masks.area(track).any()]
    assert sorted(listed) == list(range(1, len(shown) + 1))
    for number, i in enumerate(shown, 1):
        assert listed[number] == {t: r for t, r in enumerate(tracks.masks[i]) if masks.area([r])}
    last = frames[-1]
    assert last.scores.tolist() == tracks.scores[shown].tolist()
    assert last.labels.tolist() == tracks.labels[shown].tolist()


def masks_by_id(frames):
    listed = {}
    for frame in frames:
        for number, rle in zip(frame.ids.tolist(), frame.masks, strict=True):
            listed.setdefault(number, {})[frame.index] = rle
    return listed


@pytest.mark.parametrize("opts", [[], ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"]])
def test_images_of_every_kind_become_tracks(root, catalog, opts):
    config = root / "configs/tiny/panoptic_tiny.yaml"
    cpu = ["MODEL.DEVICE", "cpu", "DATASETS.CATALOGS", f"[{catalog}]", "TEST.BATCH_SIZE", "3"]
    torch.manual_seed(0)
    predictor = Predictor(config, "", [*cpu, *opts])
    frames = list(predictor.video(red_and_blue(4)))
    assert len(frames) == 4 and all(len(f.ids) == len(f.masks) for f in frames)
    kind = replace(predictor.task.postprocess, panoptic=False, instances=False)
    predictor.task = replace(predictor.task, postprocess=kind)
    (frame,) = predictor.video(red_and_blue(1))
    assert sum(masks.area(frame.masks)) == 64 * 96  # a class for every pixel


def test_folders_of_frames_come_in_the_order_of_their_numbers(catalog, tmp_path):
    for number, image in enumerate(red_and_blue(11)):
        Image.fromarray(image).save(tmp_path / f"f{number}.png")
    frames = list(color_predictor(catalog).video(tmp_path, window=4, overlap=1))
    assert [frame.name for frame in frames] == [str(tmp_path / f"f{n}.png") for n in range(11)]


def test_frames_that_cannot_be_used_raise_or_are_counted(catalog):
    predictor = color_predictor(catalog)
    video = [*red_and_blue(3), np.zeros((32, 32, 3), np.uint8), "none.png", *red_and_blue(2)]
    problems = []
    frames = list(predictor.video(video, problem=problems.append))
    assert [frame.index for frame in frames] == [0, 1, 2, 5, 6]
    assert [p.kind for p in problems] == ["frame size", "unreadable image"]
    assert "frame 3 is 32 x 32 pixels, those before it are 96 x 64" in problems[0].message
    for call in (predictor.clip, predictor.tracks, lambda x: list(predictor.video(x))):
        with pytest.raises(DataError, match="frames of one video have one size"):
            call(video)
        with pytest.raises(DataError, match="got int; expected a video file"):
            call(7)
    with pytest.raises(DataError, match="without frames"):
        predictor.clip([])
    with pytest.raises(ConfigError, match="overlap by 16"):
        list(predictor.video(video, overlap=16))


def test_a_stream_is_read_no_further_than_it_is_looked_at(catalog):
    taken = []
    video = (taken.append(i) or image for i, image in enumerate(red_and_blue(40)))
    frames = color_predictor(catalog).video(video, window=6, overlap=2)
    assert next(frames).index == 0 and len(taken) == 6
    assert [next(frames).index for _ in range(6)] == [1, 2, 3, 4, 5, 6] and len(taken) == 10


def test_no_more_than_two_windows_of_frames_are_held(catalog):
    """However long the video is: the one that is looked at, and the one that is handed out."""
    held, most = [], 0

    def video():
        for t in range(60):
            (image,) = moving_squares(1, [(RED, lambda _, t=t: bouncing(t))])
            held.append(weakref.ref(image))
            yield image
            del image

    predictor = color_predictor(catalog)
    for frame in predictor.video(video(), window=6, overlap=2, threshold=0.5):
        assert frame.ids.tolist() == [1]
        del frame
        most = max(most, sum(ref() is not None for ref in held))
    assert len(held) == 60 and most <= 12
