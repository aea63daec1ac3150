"""Outlines of segments, in pixels of the training window."""

import numpy as np
import pytest
import torch
from PIL import Image

from segcore import masks
from segcore.build.views import build_views, train_sizes
from segcore.config import load_config
from segcore.data.transforms import RandomCrop, RandomFlip, ResizeShortestEdge
from segcore.data.views import StillViews
from segcore.errors import ConfigError
from segcore.structures import Batch, Frame, Metadata, PngId, Polygons, Record, Segment

SIZE = (40, 50)
METADATA = Metadata("things", ("a", "b"), (1, 2), (True, True), ((0, 0, 0), (9, 9, 9)))
STEPS = [ResizeShortestEdge((48,), 80), RandomCrop((44, 44)), RandomFlip()]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Two polygons of a segment, a mask, a crowd, and a polygon that windows may cut away."""
    folder = tmp_path_factory.mktemp("outlines")
    Image.new("RGB", SIZE[::-1]).save(folder / "a.png")
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save(folder / "ids.png")
    mask = np.zeros((1, *SIZE), bool)
    mask[0, 10:20, 20:40] = True
    two = ((5.0, 6.0, 30.5, 6.0, 30.5, 20.0), (20.0, 25.0, 28.0, 25.0, 24.0, 33.0))
    segments = (
        Segment(1, Polygons(two)),
        Segment(0, masks.encode(mask)[0]),
        Segment(0, Polygons(((0.0, 0.0, 50.0, 0.0, 50.0, 40.0),)), crowd=True),
        Segment(0, PngId(7)),
        Segment(0, Polygons(((44.0, 1.0, 49.0, 1.0, 49.0, 4.0),))),
    )
    frame = Frame(folder / "a.png", segments, panoptic=folder / "ids.png")
    return Record(1, SIZE, (frame,))


def views_of(outlines=True):
    return StillViews(
        metadata=METADATA, targets="instance", steps=STEPS, min_size=48, max_size=80,
        outlines=outlines,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_outlines_fill_the_masks_of_their_segments(record, seed):
    sample = views_of()(record, np.random.default_rng(seed))
    outlines = sample.targets.polygons
    assert len(outlines) == len(sample.targets.labels) == len(sample.targets.masks)
    assert [o is None for o in outlines[:3]] == [False, True, True]
    assert sample.targets.labels[0] == 1
    for outline, mask in zip(outlines, sample.targets.masks[:, 0], strict=True):
        if outline is not None:
            rings = [list(ring) for ring in outline.rings]
            filled = masks.rasterise([rings], mask.shape)[0]
            assert np.array_equal(filled, mask.numpy()) and mask.any()


def test_outlines_are_left_out_unless_asked_for(record):
    assert views_of(outlines=False)(record, np.random.default_rng(0)).targets.polygons is None
    cfg = load_config(None, ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"])
    assert build_views(cfg, METADATA, outlines=True).outlines
    assert not build_views(cfg, METADATA).outlines


def test_outlines_stay_where_a_batch_is_padded(record):
    samples = [views_of()(record, np.random.default_rng(seed)) for seed in (0, 1)]
    batch = Batch.collate(samples)
    assert batch.targets[0].masks.shape[-2:] == torch.Size((64, 64))
    assert [t.polygons for t in batch.targets] == [s.targets.polygons for s in samples]


def test_sizes_are_of_a_list_or_between_two():
    def sizes(*opts):
        return train_sizes(load_config(None, [word for pair in opts for word in pair]))

    between = ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range")
    assert sizes(("INPUT.MIN_SIZE_TRAIN", "640")) == (640,)
    assert sizes(("INPUT.MIN_SIZE_TRAIN", "[640, 800]")) == (640, 800)
    assert sizes(("INPUT.MIN_SIZE_TRAIN", "[640, 643]"), between) == (640, 641, 642, 643)
    with pytest.raises(ConfigError, match="expected the least and the largest size"):
        sizes(("INPUT.MIN_SIZE_TRAIN", "[800, 640]"), between)
