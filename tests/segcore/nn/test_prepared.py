"""Backbones prepared for a CPU give the plain ones' maps."""

import copy

import pytest
import torch
from prepared_models import assert_alike, both, needs_onednn

from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.packed import PackedConv, PackedLinear
from segcore.nn.prepared import prepare
from segcore.nn.swin import Swin

pytestmark = needs_onednn
SIZES = ((1, 3, 64, 96), (2, 3, 50, 70))


def swin():
    torch.manual_seed(0)
    return Swin(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4), window_size=4)


BACKBONES = {
    "R50": ResNet,
    "BN": lambda: ResNet(50, "BN"),
    "Swin": swin,
    "timm": lambda: TimmBackbone("test_resnet"),
    "timm, linear": lambda: TimmBackbone("test_convnext"),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_of_every_size_equal_the_plain_backbone(name):
    plain, prepared = both(BACKBONES[name](), {})
    assert any(isinstance(m, PackedConv | PackedLinear) for m in prepared.modules())
    for shape in SIZES:
        images = torch.randn(shape)
        with torch.inference_mode():
            for mine, wanted in zip(prepared(images), plain(images), strict=True):
                assert_alike(mine, wanted)


def test_packed_layers_take_no_rows_and_any_strides():
    layer = torch.nn.Linear(10, 7)
    packed = PackedLinear(layer.weight, layer.bias, torch.float32)
    with torch.inference_mode():
        for x in (torch.randn(0, 10), torch.randn(10), torch.randn(3, 20)[:, ::2]):
            torch.testing.assert_close(packed(x), layer(x))


def test_a_module_in_two_places_is_one_afterwards():
    layer = torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(layer, torch.nn.Sequential(layer))
    mine = prepare(copy.deepcopy(model), torch.float32, {})
    assert isinstance(mine[0], PackedLinear) and mine[0] is mine[1][0]
