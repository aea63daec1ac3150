"""Whole two-stage detectors prepared for a CPU say what the plain ones say."""

import pytest
import torch
from prepared_models import assert_alike, both, needs_onednn, pixels
from test_detector_runs import words
from test_hosted import HOSTED

from segcore.build.task import build_task
from segcore.config import load_config
from segcore.nn.packed import PackedConv, PackedLinear
from segcore.structures import Metadata

pytestmark = needs_onednn
CLASSES = Metadata("x", ("a", "b"), (0, 1), (True, True), ((0, 0, 0),) * 2)
CPU = ["MODEL.DEVICE", "cpu"]


def assert_regions_equal(mine, wanted, bound=1e-5):
    """The same boxes with the same classes, and nearly the same numbers."""
    assert len(wanted.boxes) > 0
    assert torch.equal(mine.labels, wanted.labels) and torch.equal(mine.sample, wanted.sample)
    for name in ("boxes", "scores", "probabilities"):
        assert_alike(getattr(mine, name), getattr(wanted, name), bound)


def packed(model):
    return sum(isinstance(m, PackedConv | PackedLinear) for m in model.modules())


@pytest.mark.parametrize(
    ("head", "seed", "bound"),
    [
        ("MaskRCNNConvUpsampleHead", 0, 1e-5),
        ("SimpleRefineMaskHead", 0, 1e-5),
        ("RefineMaskHead", 0, 3e-5),  # its stages add up: 1.6e-5
        ("TransfinerHead", 1, 1e-5),  # in the other picture two boxes have one score to 2e-7
    ],
)
def test_a_two_stage_detector_equals_the_plain_one(head, seed, bound):
    opts = ["MODEL.ROI_MASK_HEAD.NAME", head, "TEST.DETECTIONS_PER_IMAGE", "12"]
    opts += ["MODEL.TRANSFINER.TEST_CELLS", "30"]
    cfg = load_config("tiny/detector_tiny.yaml", [*CPU, *opts])
    torch.manual_seed(0)
    task = build_task(cfg, CLASSES)
    plain, prepared = both(task.model, task.prepared)
    assert packed(prepared) > 10
    with torch.inference_mode():
        given = pixels(2, 1, 3, 64, 96, seed=seed)
        wanted, mine = (model(*given).regions for model in (plain, prepared))
    assert_regions_equal(mine, wanted, bound)


@pytest.mark.parametrize(
    ("head", "bound"),
    [("TransfinerHead", 1e-5), ("RefineMaskHead", 3e-5)],  # of logits up to 40 a sigmoid: 1.2e-5
)
def test_a_head_behind_a_mask2former_equals_the_plain_one(head, bound):
    opts = ["MODEL.ROI_MASK_HEAD.NAME", head, "MODEL.TRANSFINER.TEST_CELLS", "30"]
    cfg = load_config("tiny/panoptic_tiny.yaml", words(HOSTED, *CPU, *opts))
    torch.manual_seed(0)
    task = build_task(cfg, CLASSES)
    plain, prepared = both(task.model, task.prepared)
    assert packed(prepared.host) > 10 and packed(prepared.neck) > 2
    assert packed(prepared.mask_head) > 2
    with torch.inference_mode():
        given = pixels(2, 1, 3, 64, 96)
        wanted, mine = (model(*given) for model in (plain, prepared))
    assert_alike(mine.layers[-1].masks, wanted.layers[-1].masks)
    assert_regions_equal(mine.regions, wanted.regions, bound)
    for own, other in zip(mine.regions.logits, wanted.regions.logits, strict=True):
        assert_alike(own, other)
