"""The network of boundary patches prepared for a CPU says what the plain one says."""

import copy

import numpy as np
import pytest
import torch
from prepared_models import (
    assert_a_hook_still_runs,
    assert_alike,
    both,
    needs_onednn,
    randomised,
)

from maskrefine.bpr import PatchRefiner
from maskrefine.hrnet import PatchNetwork, Variant
from maskrefine.prepared import PATCHES

pytestmark = needs_onednn


def network(width=18):
    torch.manual_seed(0)
    return PatchNetwork(Variant(64, width, 1, (1, 1, 1), 1))


@pytest.mark.parametrize("width", [18, 16])  # the latter's by Winograd's algorithm
def test_logits_of_patches_equal_the_plain_networks(width):
    plain, prepared = both(network(width), PATCHES)
    assert not [m for m in prepared.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
    with torch.inference_mode():
        patches = torch.randn(3, 4, 64, 64)
        assert_alike(prepared(patches), plain(patches))


@pytest.mark.parametrize("watched", ["backbone.layer1.0.conv2", "backbone.layer1.0", "decode_head"])
def test_hooks_inside_still_run(watched):
    patches = torch.randn(1, 4, 64, 64)
    assert_a_hook_still_runs(network(16), PATCHES, watched, lambda model: [model(patches)])


def test_bf16_is_as_near_to_float32_as_the_plain_network():
    plain, prepared = both(network(), PATCHES, torch.bfloat16)
    with torch.inference_mode():
        patches = torch.randn(3, 4, 64, 64)
        exact = plain(patches)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(m(patches).float() - exact).abs().mean() for m in (prepared, plain)]
    assert errors[0] < 1.5 * errors[1] and errors[0] < 0.05 * exact.abs().mean()


def test_a_packed_refiner_gives_the_same_masks():
    plain = randomised(network())
    mask = np.zeros((1, 160, 200), bool)
    mask[0, 40:120, 50:150] = True
    image = np.random.default_rng(0).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    wanted = PatchRefiner(copy.deepcopy(plain))(image, mask)
    refiner = PatchRefiner(plain).pack()
    assert not list(refiner.network.parameters())
    refined = refiner(image, mask)
    assert (wanted != mask).any() and (refined != wanted).mean() < 1e-3
