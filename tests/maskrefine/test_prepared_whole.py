"""Whole two-stage detectors prepared for a CPU say what the plain ones say."""

import pytest
import torch
from prepared_models import assert_alike, both, needs_onednn, pixels

from segcore.build.task import build_task
from segcore.config import load_config
from segcore.nn.packed import PackedConv, PackedLinear
from segcore.structures import Metadata

pytestmark = needs_onednn
CLASSES = Metadata("x", ("a", "b"), (0, 1), (True, True), ((0, 0, 0),) * 2)
CPU = ["MODEL.DEVICE", "cpu"]


def assert_regions_equal(mine, wanted):
    """The same boxes with the same classes, and nearly the same numbers."""
    assert len(wanted.boxes) > 0
    assert torch.equal(mine.labels, wanted.labels) and torch.equal(mine.sample, wanted.sample)
    for name in ("boxes", "scores", "probabilities"):
        assert_alike(getattr(mine, name), getattr(wanted, name))


def packed(model):
    return sum(isinstance(m, PackedConv | PackedLinear) for m in model.modules())


@pytest.mark.parametrize("head", ["MaskRCNNConvUpsampleHead", "SimpleRefineMaskHead"])
def test_a_two_stage_detector_equals_the_plain_one(head):
    cfg = load_config("tiny/detector_tiny.yaml", [*CPU, "MODEL.ROI_MASK_HEAD.NAME", head])
    torch.manual_seed(0)
    task = build_task(cfg, CLASSES)
    plain, prepared = both(task.model, task.prepared)
    assert packed(prepared) > 10
    with torch.inference_mode():
        wanted, mine = (model(*pixels(2, 1, 3, 64, 96)).regions for model in (plain, prepared))
    assert_regions_equal(mine, wanted)
