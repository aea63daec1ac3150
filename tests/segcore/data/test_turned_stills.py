"""Images upside down and rotated: masks of every kind stay on what they are of."""

import numpy as np
import pytest
from PIL import Image

from cropformer.build import build_views as build_crop_views
from segcore import masks
from segcore.build.views import build_views
from segcore.config import load_config
from segcore.errors import ConfigError
from segcore.structures import Frame, Metadata, PngId, Polygons, Record, Segment

METADATA = Metadata("drawn", ("box",), (1,), (True,), ((220, 60, 60),))
BOX = np.s_[10:30, 15:50]
PLAIN = ("INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "60")


@pytest.fixture
def record(tmp_path):
    """The same red box as RLE, polygon and id of a PNG, and as a crowd."""
    image, ids = np.full((60, 80, 3), 90, np.uint8), np.zeros((60, 80), np.uint8)
    image[BOX], ids[BOX] = (250, 20, 20), 1
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(ids).save(tmp_path / "ids.png")
    rle = masks.encode(ids[None])[0]
    ring = Polygons(((15.0, 10, 50, 10, 50, 30, 15, 30),))
    segments = (
        Segment(0, rle),
        Segment(0, ring),
        Segment(0, PngId(1)),
        Segment(0, rle, crowd=True),
    )
    frame = Frame(tmp_path / "a.png", segments, panoptic=tmp_path / "ids.png")
    return Record(1, (60, 80), (frame,))


def sample_of(record, mapper, *opts, seed=0):
    cfg = load_config(None, [*PLAIN, "INPUT.DATASET_MAPPER_NAME", mapper, *opts])
    sample = build_views(cfg, METADATA)(record, np.random.default_rng(seed))
    red = (sample.views[0, 0] > 180) & (sample.views[0, 1] < 60)
    return sample, red.numpy(), sample.targets.masks[:, 0].numpy()


def test_upside_down_is_exact(record):
    plain, _, _ = sample_of(record, "mask_former_instance")
    sample, red, shapes = sample_of(record, "mask_former_instance", "INPUT.VERTICAL_FLIP", "1")
    assert np.array_equal(sample.views.numpy(), plain.views.numpy()[..., ::-1, :])
    assert len(shapes) == 3  # the crowd stays out
    for shape in shapes:
        assert np.array_equal(shape, red)


@pytest.mark.parametrize("mapper", ["mask_former_instance", "coco_instance_lsj"])
@pytest.mark.parametrize("seed", range(6))
def test_rotated_masks_lie_on_their_object(record, mapper, seed):
    more = ("INPUT.ROTATION", "180", "INPUT.IMAGE_SIZE", "90", "INPUT.MIN_SCALE", "1.0")
    _, red, shapes = sample_of(record, mapper, *more, seed=seed)
    assert len(shapes) == 3
    for shape in shapes:
        assert (shape & red).sum() > 0.93 * max((shape | red).sum(), 1)


def test_rotation_is_drawn_anew_and_alike_by_seed(record):
    more = ("mask_former_instance", "INPUT.ROTATION", "30")
    first, again, other = (sample_of(record, *more, seed=s)[0].views for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_nothing_turns_by_default_and_limits_raise():
    cfg = load_config()
    assert (cfg.INPUT.VERTICAL_FLIP, cfg.INPUT.ROTATION) == (0, 0)
    with pytest.raises(ConfigError, match=r"INPUT.ROTATION is 181"):
        load_config(None, ["INPUT.ROTATION", "181"])
    crops = load_config(None, ["MODEL.META_ARCHITECTURE", "CropFormer", "INPUT.ROTATION", "5"])
    with pytest.raises(ConfigError, match=r"INPUT.ROTATION is 5.*expected 0"):
        build_crop_views(crops, METADATA)
