"""CropFormer trained on a CPU has the plain model's answers and gradients."""

import copy
from pathlib import Path

import torch
from prepared_models import needs_onednn, pixels, randomised
from tiny_model import metadata_of

from cropformer.cpu_training import TRAINED
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.nn.cpu_training import train_on_cpu

ROOT = Path(__file__).resolve().parents[2]
TINY = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
TINY += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]


def learned(model):
    """What both passes say, and the gradients of some rows of their masks and of all classes."""
    outputs = model(*pixels(2, 3, 3, 64, 96))
    layers = [*outputs.layers, *outputs.per_view]
    model.zero_grad()
    sums = [x.logits.square().mean() + x.masks[:, 1:3].square().mean() for x in layers]
    torch.stack(sums).sum().backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return [x.detach() for layer in layers for x in (layer.logits, layer.masks)], gradients


@needs_onednn
def test_both_passes_and_their_gradients_equal_the_plain_models():
    cfg = load_config(ROOT / "configs/tiny/panoptic_tiny.yaml", TINY)
    torch.manual_seed(0)
    plain = randomised(build_task(cfg, metadata_of(ROOT, 5)).model).train()
    mine = copy.deepcopy(plain)
    train_on_cpu(mine, TRAINED, winograd=False)  # its rounding may flip a bit of an attention mask
    assert type(mine.decoder.decoder) is not type(plain.decoder.decoder)
    assert mine.state_dict().keys() == plain.state_dict().keys()
    (wanted, gradients), (answers, others) = learned(plain), learned(mine)
    for answer, value in zip(answers, wanted, strict=True):
        torch.testing.assert_close(answer, value, atol=1e-4, rtol=1e-4)
    assert others.keys() == gradients.keys()
    for name, value in gradients.items():
        assert (others[name] - value).norm() < 1e-3 * value.norm() + 1e-6, name
