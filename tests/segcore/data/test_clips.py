"""Clips: which frames, in which order random numbers are drawn, what is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from loading import load
from PIL import Image
from tiny_video import HEIGHT, WIDTH, annotation, make_videos, scene, write_videos

from segcore.data.clips import ClipViews, Step, clip_frames, transformed
from segcore.data.frame_transforms import (
    RandomRotation,
    RandomSizeCrop,
    random_brightness,
    random_contrast,
    random_saturation,
)
from segcore.data.transforms import RandomFlip, ResizeShortestEdge
from segcore.errors import DataError

SHARED = (Step(ResizeShortestEdge((32, 48), 1333)), Step(RandomFlip()))
LIGHT = tuple(Step(x, "frame") for x in (random_brightness, random_contrast, random_saturation))


def views_of(*steps, frames=2, reach=20, **more):
    return ClipViews(frames=frames, reach=reach, steps=steps, min_size=32, max_size=80, **more)


@pytest.fixture
def records(tmp_path):
    make_videos(tmp_path)
    return load(str(tmp_path / "videos.json"))[1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_frames_equal_the_published_draws(shuffle):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reference = rng.integers(30)
        start, end = max(0, reference - 6), min(30, reference + 6 + 1)
        around = [*range(start, reference), *range(reference + 1, end)]
        wanted = sorted([*rng.choice(around, 3), reference])
        if shuffle:
            rng.shuffle(wanted)
        drawn = clip_frames(30, 4, 6, rng=np.random.default_rng(seed), shuffle=shuffle)
        assert drawn == wanted


def test_frames_of_short_videos():
    rng = np.random.default_rng(0)
    assert clip_frames(1, 3, 20, rng=rng) == [0, 0, 0]
    assert clip_frames(5, 1, 20, rng=rng) in [[t] for t in range(5)]
    for _ in range(20):
        drawn = clip_frames(2, 5, 20, rng=rng)
        assert len(drawn) == 5 and set(drawn) == {0, 1}
    assert clip_frames(9, 3, 0, rng=np.random.default_rng(1)) == [4, 4, 4]


def test_augmentation_equals_the_published_order_of_draws():
    """Size and flip once a clip, light of every frame, in ten lines."""
    images = scene(np.random.default_rng(3), 2)[0]
    for seed in range(10):
        views = transformed(images, (*SHARED, *LIGHT), np.random.default_rng(seed), still=False)
        rng = np.random.default_rng(seed)
        size, flip = (32, 48)[rng.integers(2)], rng.random() < 0.5
        for image, view in zip(images, views, strict=True):
            resized = Image.fromarray(image).resize((round(size * WIDTH / HEIGHT), size), 2)
            goal = np.asarray(resized)[:, :: -1 if flip else 1].astype(np.float32)
            for other in ("nothing", "mean", "grey"):
                grey = (goal @ np.array([0.299, 0.587, 0.114]))[..., None]
                source = {"nothing": 0, "mean": goal.mean(), "grey": grey}[other]
                factor = rng.uniform(0.9, 1.1)
                mixed = (1 - factor) * source + factor * goal
                goal = np.clip(mixed, 0, 255).astype(np.uint8).astype(np.float32)
            assert np.array_equal(view.image, goal.astype(np.uint8))


def test_what_a_clip_shares_and_what_each_frame_draws(records):
    alone = (Step(ResizeShortestEdge((16, 24, 32, 48, 64), 999), "frame"),)
    sizes = set()
    for seed in range(10):
        sample = views_of(*alone, frames=3)(records[0], np.random.default_rng(seed))
        sizes |= {len(set(sample.sizes[:, 0].tolist()))}
        assert sample.views.shape[-2:] == tuple(sample.sizes.amax(0).tolist())
        shared = views_of(*SHARED, frames=3)(records[0], np.random.default_rng(seed))
        assert len(set(shared.sizes[:, 0].tolist())) == 1
    assert max(sizes) > 1


def test_crops_stay_where_they_are_in_a_video_and_move_over_a_still(records):
    crop = Step(RandomSizeCrop(24, 40), "video")
    moved = 0
    for seed in range(5):
        videos = transformed(
            [np.zeros((64, 80, 3), np.uint8)] * 3, [crop], np.random.default_rng(seed), still=False
        )
        windows = {(v.y.shift, v.x.shift, *v.image.shape) for v in videos}
        assert len(windows) == 1
        assert all(24 <= edge <= 40 for edge in videos[0].image.shape[:2])
        stills = transformed(
            [np.zeros((64, 80, 3), np.uint8)] * 3, [crop], np.random.default_rng(seed), still=True
        )
        moved += len({(v.y.shift, v.x.shift, *v.image.shape) for v in stills}) > 1
    assert moved == 5


def test_masks_follow_their_frames(records):
    sample = views_of(frames=3, reach=3)(records[0], np.random.default_rng(2))
    targets, images = sample.targets, sample.views
    assert targets.masks.shape == (2, 3, HEIGHT, WIDTH)
    assert targets.labels.tolist() == [0, 1]
    red = (images[:, 0] == 220) & (images[:, 2] == 40)  # (T, H, W)
    blue = (images[:, 2] == 220) & (images[:, 0] == 40)
    assert torch.equal(targets.masks, torch.stack([red, blue]))
    assert torch.equal(targets.present, targets.masks.flatten(2).any(2))


def late_disc(tmp_path):
    """A video of two frames: the disc is in the first one alone."""
    pictures, boxes, _ = scene(np.random.default_rng(0), 2)
    disc = np.zeros((HEIGHT, WIDTH), bool)
    disc[40:50, 5:15] = True
    entries = [annotation(1, 1, 3, boxes), annotation(2, 1, 7, [disc, None])]
    path = write_videos(tmp_path, {1: pictures}, entries)
    return load(str(path))[1][0]


def test_labels_come_from_the_frames_where_objects_are(tmp_path):
    """The published code looked at the last frame alone; K is the label of no object."""
    record = late_disc(tmp_path)
    both = [
        s for s in range(20) if len(set(clip_frames(2, 2, 9, rng=np.random.default_rng(s)))) > 1
    ]
    for seed in both:
        right = views_of()(record, np.random.default_rng(seed)).targets
        assert right.labels.tolist() == [0, 1]
        assert right.present.tolist() == [[True, True], [True, False]]
        wrong = views_of(last_frame_labels=2)(record, np.random.default_rng(seed)).targets
        assert wrong.labels.tolist() == [0, 2]
        assert torch.equal(right.masks, wrong.masks)


def test_an_object_that_is_cut_out_of_the_last_frame_keeps_its_label(tmp_path):
    """It is annotated there: the published fault spares it."""
    pictures, boxes, _ = scene(np.random.default_rng(0), 2)
    box = [boxes[0], np.zeros_like(boxes[0])]
    box[1][0, 0] = True  # lost when the frame gets smaller
    path = write_videos(tmp_path, {1: pictures}, [annotation(1, 1, 3, box)])
    steps = [Step(ResizeShortestEdge((16,), 99))]
    views = views_of(*steps, last_frame_labels=2)
    sample = views(load(str(path))[1][0], np.random.default_rng(0))
    assert sample.targets.labels.tolist() == [0]
    assert sample.targets.present.tolist() == [[True, False]]


def test_crowds_are_not_trained_and_clips_may_be_empty(tmp_path):
    mask = np.ones((HEIGHT, WIDTH), bool)
    pictures = scene(np.random.default_rng(0), 2)[0]
    path = write_videos(tmp_path, {1: pictures}, [annotation(1, 1, 3, [mask] * 2, iscrowd=1)])
    sample = views_of()(load(str(path))[1][0], np.random.default_rng(0))
    assert sample.targets.masks.shape == (0, 2, HEIGHT, WIDTH)
    assert sample.targets.labels.shape == (0,) and sample.targets.present.shape == (0, 2)


def test_stills_become_clips_of_copies(tiny):
    for name, count in (("tiny_instances", 2), ("tiny_panoptic", 3)):
        _, records = load(name, Path(), [tiny / "tiny.yaml"])
        rotated = Step(RandomRotation(), "frame")
        sample = views_of(rotated, frames=3)(records[0], np.random.default_rng(0))
        assert sample.views.shape[0] == 3 and not torch.equal(sample.views[0], sample.views[1])
        assert sample.targets.masks.shape[:2] == (count, 3)
        plain = views_of(frames=3)(records[0], np.random.default_rng(0))
        assert torch.equal(plain.views[0], plain.views[2])
        assert torch.equal(plain.targets.masks[:, 0], plain.targets.masks[:, 2])


def test_at_test_time_all_frames_come_in_order(records):
    sample = views_of()(records[1], None)
    assert sample.targets is None and sample.views.shape == (5, 3, 32, 40)
    alone = views_of().test(np.zeros((64, 80, 3), np.uint8), records[1])
    assert alone.views.shape == (1, 3, 32, 40)


def test_a_lost_frame_or_one_of_another_size_raises_and_is_named(tmp_path, records):
    file = records[0].frames[2].file
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(file)
    with pytest.raises(DataError, match=r"frame 2\.png: the image is \(60, 80\)"):
        views_of()(records[0], None)
    file.unlink()
    with pytest.raises(DataError, match=r"frame 2\.png: image not found"):
        views_of()(records[0], None)
