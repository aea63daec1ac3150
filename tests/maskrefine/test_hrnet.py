"""The patch network against numbers of the published program."""

import numpy as np
import pytest
import torch
from formulas import PHI, golden_file, key_shapes, picture, weights

from maskrefine.hrnet import VARIANTS, PatchNetwork, resize
from maskrefine.patch_numerics import PATCH_NUMERICS, foreground, network_input, normalise
from segcore.errors import WeightsError

# HRNet-48's logits reach 43, and the published program's own move by 1.5e-4 with its threads
TOLERANCE = {"hrnet18s": 1e-4, "hrnet48": 4e-4}


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "refiners"


def loaded(folder, name):
    network = PatchNetwork(VARIANTS[name])
    network.load_official(weights(key_shapes(folder, f"bpr_{name}")))
    return network


def coarse(n, side, phi=PHI):
    y, x = np.mgrid[:side, :side].astype(float)
    waves = [
        np.sin(9.5 * x / side + 5.3 * y / side + 1.3 * i + phi)
        + 0.6 * np.sin(11 * y / side - 4.1 * x / side + i)
        for i in range(n)
    ]
    return torch.from_numpy(np.stack(waves) > 0)


def patches(n, side):
    colors = np.stack([picture(side, side, PHI + 0.8 * i) for i in range(n)])
    return network_input(normalise(torch.from_numpy(colors).float()), coarse(n, side))


def close(ours, theirs, atol=1e-4, rtol=0.0):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", VARIANTS)
def test_names_and_shapes_equal_the_official_ones_both_ways(folder, name):
    ours = {k: list(v.shape) for k, v in PatchNetwork(VARIANTS[name]).state_dict().items()}
    assert ours == key_shapes(folder, f"bpr_{name}")


@pytest.mark.parametrize("name", [pytest.param("hrnet48", marks=pytest.mark.slow), "hrnet18s"])
def test_logits_and_maps_equal(folder, name):
    settings, arrays = golden_file(folder, f"bpr_{name}")
    network, n, side = loaded(folder, name).eval(), settings["n"], settings["size"]
    atol = TOLERANCE[name]
    with torch.inference_mode():
        given = patches(n, side)
        maps = network.backbone(given)
        logits = network.decode_head(maps)
    close(logits, arrays["head_logits"], atol)
    for i, found in enumerate(maps):
        close(found[:, ::7, ::3, ::3], arrays[f"backbone{i}_sample"], atol, rtol=1e-5)
        sums = found.double().abs().sum((2, 3))
        close(sums, arrays[f"backbone{i}_abssum"], atol=1e-2, rtol=1e-5)
    full = resize(logits, side)
    if name == "hrnet18s":
        close(full, arrays["logits_full"])
    else:
        close(full[:, :, ::4, ::4], arrays["logits_full_stride4"], atol)
    sums = full.double().softmax(1)[:, 1].sum((1, 2))
    close(sums, arrays["prob_full_abssum"], atol=0.05)
    for kind, published in (("batch", "batch_pipeline"), ("demo", "demo")):
        close(
            PATCH_NUMERICS[kind].probabilities(foreground(logits), side, 64),
            arrays[f"prob64_{published}"],
        )


def test_a_folded_batch_equals_one_by_one(folder):
    network = loaded(folder, "hrnet18s").eval()
    given = patches(4, 128)
    with torch.inference_mode():
        alone = torch.cat([network(one[None]) for one in given])
        close(network(given), alone.numpy(), atol=2e-5)


def test_tensors_of_the_other_size_raise(folder):
    with pytest.raises(WeightsError, match=r"lacks .* other size"):
        loaded_state = PatchNetwork(VARIANTS["hrnet18s"]).state_dict()
        PatchNetwork(VARIANTS["hrnet48"]).load_official(loaded_state)
    state = loaded_state | {"backbone.extra.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"unknown 1 tensors .*backbone\.extra"):
        PatchNetwork(VARIANTS["hrnet18s"]).load_official(state)


def test_first_weights_are_drawn_as_published():
    torch.manual_seed(0)
    network = PatchNetwork(VARIANTS["hrnet18s"])
    assert network.decode_head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.1)
    he = (2 / (64 * 9)) ** 0.5
    assert network.backbone.conv2.weight.std().item() == pytest.approx(he, rel=0.05)
    bound = 1 / 3  # torch's own: uniform within 1 / sqrt(fan in)
    assert network.backbone.conv_mask.weight.abs().max().item() == pytest.approx(bound, rel=0.05)
