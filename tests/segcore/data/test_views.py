"""Samples: images and the masks in their window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.data.transforms import (
    FixedSizeCrop,
    PadTo,
    RandomCrop,
    RandomFlip,
    ResizeScale,
)
from segcore.data.views import StillViews
from segcore.labels import semantic_map
from segcore.segment_rle import to_rle


def views_of(metadata, targets="instance", *, steps):
    return StillViews(metadata=metadata, targets=targets, steps=steps, min_size=48, max_size=80)


@pytest.mark.parametrize(
    ("name", "targets", "classes"),
    [("tiny_panoptic", "panoptic", 3), ("tiny_instances", "instance", 2),
     ("tiny_semantic", "semantic", 3)],
)  # fmt: skip
def test_three_forms_of_one_data_set(tiny, name, targets, classes):
    metadata, records = load(name, Path("nowhere"), [tiny / "tiny.yaml"])
    assert len(metadata.classes) == classes
    assert len(records) == 8
    sample = views_of(metadata, targets, steps=[])(records[0], np.random.default_rng(0))
    assert sample.targets.masks.shape == (len(sample.targets.labels), 1, 72, 64)
    truth = semantic_map(
        load("tiny_semantic", Path(), [tiny / "tiny.yaml"])[1][0].frames[0],
        Catalog(Path(), [tiny / "tiny.yaml"]).metadata("tiny_semantic"),
    )
    for label, mask in zip(sample.targets.labels.tolist(), sample.targets.masks[:, 0], strict=True):
        assert np.array_equal(mask.numpy(), truth == label)


def test_lazy_masks_equal_transforming_whole_masks(shared_data):
    """Jitter, crop and flip of pixels through indices = doing it to every mask."""
    metadata, records = load(
        str(shared_data / "coco_panoptic_200/annotations/panoptic_val2017.json")
    )
    steps = [
        RandomFlip(1.0),
        ResizeScale(min_scale=0.4, max_scale=0.6, height=512, width=512),
        FixedSizeCrop((256, 256)),
    ]
    record = records[0]
    sample = views_of(metadata, "panoptic", steps=steps)(record, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    rng.random()
    factor, (h, w) = rng.uniform(0.4, 0.6), record.size
    scale = min(512 * factor / h, 512 * factor / w)
    new = (int(np.round(w * scale)), int(np.round(h * scale)))
    u = rng.random()
    frame, kept = record.frames[0], 0
    for segment in (s for s in frame.segments if not s.crowd):
        whole = masks.decode(to_rle(segment, frame, record.size)).astype(np.uint8)
        resized = Image.fromarray(whole[:, ::-1]).resize(new, Image.Resampling.NEAREST)
        resized = np.asarray(resized)
        y, x = (round(max(edge - 256, 0) * u) for edge in resized.shape)
        plain = np.zeros((256, 256), bool)
        window = resized[y : y + 256, x : x + 256]
        plain[: window.shape[0], : window.shape[1]] = window
        if plain.any():
            assert np.array_equal(sample.targets.masks[kept, 0].numpy(), plain)
            kept += 1
    assert kept == len(sample.targets.labels)


def test_polygons_and_crowds_of_coco(shared_data):
    path = shared_data / "coco_polygons_mini"
    metadata, records = load(str(path / "instances.json"))
    crowds = sum(s.crowd for r in records for s in r.frames[0].segments)
    assert (len(records), crowds) == (24, 17)
    for record in records[:4]:
        whole = views_of(metadata, steps=[])(record, np.random.default_rng(0))
        flipped = views_of(metadata, steps=[RandomFlip(1.0)])(record, np.random.default_rng(0))
        both = whole.targets.masks.flip(-1) == flipped.targets.masks
        assert both.float().mean() > 0.999  # outlines move by a pixel, areas do not


def test_what_the_window_cuts_away_is_dropped(tiny):
    metadata, records = load("tiny_instances", Path(), [tiny / "tiny.yaml"])
    seen = set()
    for seed in range(20):
        views = views_of(metadata, steps=[RandomCrop((12, 12)), PadTo(16)])
        sample = views(records[0], np.random.default_rng(seed))
        assert sample.targets.masks.shape[1:] == (1, 16, 16)
        assert sample.targets.masks.flatten(1).any(1).all()
        seen.add(len(sample.targets.labels))
    assert 0 in seen  # nothing left is legal
