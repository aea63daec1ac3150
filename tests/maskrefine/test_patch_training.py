"""Losses and gradients of the patch network against the published program; training it."""

import pytest
import torch
from formulas import PHI, golden_file, key_shapes, weights
from test_hrnet import coarse, patches

from maskrefine.hrnet import VARIANTS, PatchNetwork, Variant
from maskrefine.patch_model import PatchSegmenter, losses
from segcore.structures import Outputs, Regions, Targets

N, SIDE = 4, 128


def targets(masks):
    return [Targets(torch.zeros(1).long(), m[None, None], torch.ones(1, 1).bool()) for m in masks]


def outputs(logits):
    number = torch.arange(len(logits))
    return Outputs([], regions=Regions(number, torch.zeros(len(logits), 4), number * 0, [logits]))


def counts(number):
    return torch.tensor([float(number)] * 2)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradients_equal(golden, mode):
    """In float64: batch statistics amplify rounding, so that float32's gradients of the stem move
    by 2e-3 with the number of threads, and the record is 1e-3 from these."""
    folder = golden / "refiners"
    settings, _ = golden_file(folder, "bpr_hrnet18s")
    network = PatchNetwork(VARIANTS["hrnet18s"])
    network.load_official(weights(key_shapes(folder, "bpr_hrnet18s")))
    network.train(mode == "train").double()
    logits = network(patches(N, SIDE).double())
    loss = losses(outputs(logits), targets(coarse(N, SIDE, PHI + 0.35)), counts(N))["loss_seg"]
    assert loss.item() == pytest.approx(settings[f"losses_bn_{mode}"]["decode.loss_seg"], rel=1e-5)
    loss.backward()
    sums = {k: p.grad.abs().sum().item() for k, p in network.named_parameters()}
    for name, value in settings[f"grads_bn_{mode}"].items():
        assert sums[name] == pytest.approx(value, rel=2e-3), name
    assert sum(sums.values()) == pytest.approx(settings[f"grads_total_bn_{mode}"], rel=1e-3)
    if mode == "train":
        buffers = dict(network.named_buffers())
        for name, value in settings["running_after_bn_train"].items():
            assert buffers[name].abs().sum().item() == pytest.approx(value, rel=1e-5), name


def test_the_model_sees_what_the_network_is_given(golden):
    torch.manual_seed(0)
    network = PatchNetwork(Variant(32, 4, 1, (1, 1, 1), 1)).eval()
    images = torch.randint(0, 256, (3, 1, 4, 32, 32), dtype=torch.uint8)
    images[:, :, 3] %= 2
    found = PatchSegmenter(network)(images, torch.full((3, 1, 2), 32))
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    colors, signs = (images[:, 0, :3] - mean) / std, 2.0 * images[:, 0, 3:] - 1
    wanted = network(torch.cat((colors, signs), 1))
    torch.testing.assert_close(found.regions.logits[0], wanted)


def test_a_patch_weighs_the_same_on_every_rank():
    logits, truth = torch.randn(6, 2, 8, 8), torch.rand(6, 32, 32) > 0.5
    together = losses(outputs(logits), targets(truth), counts(6))["loss_seg"]
    ranks = [
        losses(outputs(logits[part]), targets(truth[part]), counts(3))["loss_seg"]
        for part in (slice(0, 2), slice(2, 6))  # two patches here, four there
    ]
    torch.testing.assert_close(sum(ranks) / 2, together)
