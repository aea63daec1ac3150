"""INPUT.MIRROR_SWAP: in a mirrored image left and right change places, in the labels too."""

import numpy as np
import pytest
from PIL import Image

from cropformer.build import build_views as build_crop_views
from mask2former.video_build import build_clip_views
from maskrefine.patch_build import build_patches
from segcore.build.views import build_views, mirrored_labels
from segcore.config import load_config
from segcore.errors import ConfigError
from segcore.structures import Frame, Metadata, PngId, Record, Segment

CLASSES = ("left_hand", "wall", "right_hand")
METADATA = Metadata("hands", CLASSES, (1, 2, 3), (True,) * 3, ((0, 0, 0),) * 3)
SWAPPED = {"left_hand": "right_hand", "right_hand": "left_hand", "wall": "wall"}
PAIRS = "[[left_hand, right_hand]]"


@pytest.fixture
def record(tmp_path):
    """Red, a left hand, in one corner, a green wall in another; the rest is blue, a right hand."""
    ids = np.full((60, 80), 3, np.uint8)
    ids[5:25, 10:40], ids[35:55, 50:70] = 1, 2
    image = np.zeros((60, 80, 3), np.uint8)
    for i in range(3):
        image[..., i][ids == i + 1] = 250
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(ids).save(tmp_path / "ids.png")
    segments = tuple(Segment(k, PngId(k + 1)) for k in range(3))
    return Record(1, (60, 80), (Frame(tmp_path / "a.png", segments, tmp_path / "ids.png"),))


def labels_of_colors(sample):
    """What red, green and blue are called, and whether the red corner is on the right, below."""
    seen = {}
    for label, mask in zip(sample.targets.labels.tolist(), sample.targets.masks[:, 0], strict=True):
        seen[int(sample.views[0][:, mask].sum(1).argmax())] = CLASSES[label]
    y, x = np.argwhere(sample.views[0, 0].numpy() > 128).mean(0)
    return [seen[i] for i in range(3)], x > 40, y > 30


@pytest.mark.parametrize("kind", ["instance", "panoptic", "semantic"])
@pytest.mark.parametrize("swap", [PAIRS, "auto", "[]"])
def test_labels_change_places_where_the_image_is_mirrored_once(record, kind, swap):
    opts = ["INPUT.MIN_SIZE_TRAIN", "60", "INPUT.VERTICAL_FLIP", "0.5", "INPUT.MIRROR_SWAP", swap]
    cfg = load_config(None, [*opts, "INPUT.DATASET_MAPPER_NAME", f"mask_former_{kind}"])
    views, seen = build_views(cfg, METADATA), set()
    for seed in range(16):
        names, on_the_right, below = labels_of_colors(views(record, np.random.default_rng(seed)))
        expected = list(CLASSES)
        if on_the_right != below and swap != "[]":  # both: the image is turned, not mirrored
            expected = [SWAPPED[name] for name in expected]
        assert names == expected
        seen.add((on_the_right, below))
    assert len(seen) == 4


@pytest.mark.parametrize("flip", ["flip_by_clip", "none"])
def test_clips_are_mirrored_as_a_whole(record, flip):
    opts = ["MODEL.META_ARCHITECTURE", "VideoMaskFormer", "INPUT.RANDOM_FLIP", flip]
    cfg = load_config(None, [*opts, "INPUT.MIN_SIZE_TRAIN", "60", "INPUT.MIRROR_SWAP", "auto"])
    views, sides = build_clip_views(cfg, 3, mirrored_labels(cfg, METADATA)), set()
    for seed in range(8):
        names, on_the_right, _ = labels_of_colors(views(record, np.random.default_rng(seed)))
        assert names == [SWAPPED[n] if on_the_right else n for n in CLASSES]
        sides.add(on_the_right)
    assert len(sides) == (2 if flip == "flip_by_clip" else 1)
    cfg = load_config(None, [*opts[:2], "INPUT.RANDOM_FLIP", "horizontal"])
    with pytest.raises(ConfigError, match=r"RANDOM_FLIP horizontal mirrors each frame.*by_clip"):
        build_clip_views(cfg, 3, (2, 1, 0))


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ("[[left_foot, right_hand]]", "has left_foot, .*hands has no class; .*left_hand, wall"),
        ("[[left_hand, wall], [wall, right_hand]]", "wall stands in it twice"),
        ("[[left_hand]]", "pairs of two names"),
        ("[left_hand, right_hand]", "pairs of two names"),
        ("always", "expected auto, or pairs"),
    ],
)
def test_wrong_pairs_raise(swap, message):
    with pytest.raises(ConfigError, match=message):
        mirrored_labels(load_config(None, ["INPUT.MIRROR_SWAP", swap]), METADATA)


def test_auto_raises_where_a_side_is_missing_and_does_nothing_without_sides():
    cfg = load_config(None, ["INPUT.MIRROR_SWAP", "auto"])
    assert mirrored_labels(cfg, METADATA) == (2, 1, 0)
    assert mirrored_labels(load_config(), METADATA) is None
    for names, expected in ((("box", "disc"), None), (("l_arm", "box", "r_arm"), (2, 1, 0))):
        other = Metadata("other", names, (1, 2, 3), (True,) * 3, ())
        assert mirrored_labels(cfg, other) == expected
    alone = Metadata("alone", ("left_ear", "box"), (1, 2), (True,) * 2, ())
    with pytest.raises(ConfigError, match=r"no one class of the other side of left_ear"):
        mirrored_labels(cfg, alone)


def test_views_without_classes_raise():
    cfg = load_config(None, ["MODEL.META_ARCHITECTURE", "CropFormer", "INPUT.MIRROR_SWAP", PAIRS])
    with pytest.raises(ConfigError, match=r"CropFormer learns masks without classes"):
        build_crop_views(cfg, METADATA)
    with pytest.raises(ConfigError, match=r"expected \[\]"):
        build_patches(
            load_config("small/bpr_hrnet18s.yaml", ["INPUT.MIRROR_SWAP", PAIRS]), METADATA
        )
