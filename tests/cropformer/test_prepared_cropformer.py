"""CropFormer prepared for a CPU says what the plain model says."""

from pathlib import Path

import pytest
import torch
from prepared_models import assert_alike, both, needs_onednn, pixels
from tiny_model import metadata_of

from segcore.build.task import build_task
from segcore.config import load_config

ROOT = Path(__file__).resolve().parents[2]
TINY = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
TINY += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]


@needs_onednn
@pytest.mark.parametrize("shape", [(1, 5, 3, 64, 96), (2, 3, 3, 50, 70)])
def test_both_passes_equal_the_plain_model(shape):
    cfg = load_config(ROOT / "configs/tiny/panoptic_tiny.yaml", TINY)
    torch.manual_seed(0)
    task = build_task(cfg, metadata_of(ROOT, 5))
    plain, prepared = both(task.model, task.prepared)
    with torch.inference_mode():
        wanted, mine = (model(*pixels(*shape)) for model in (plain, prepared))
    for name in ("layers", "per_view"):
        for answer, other in zip(getattr(mine, name), getattr(wanted, name), strict=True):
            assert_alike(answer.logits, other.logits)
            assert_alike(answer.masks, other.masks)
