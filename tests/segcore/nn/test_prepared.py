"""Backbones prepared for a CPU give the plain ones' maps."""

import copy

import pytest
import timm
import torch
from prepared_models import assert_a_hook_still_runs, assert_alike, both, needs_onednn

from segcore.nn.backbones import ResNet, TimmBackbone
from segcore.nn.hornet import HorNet
from segcore.nn.packed import PackedConv, PackedLinear
from segcore.nn.prepared import prepare
from segcore.nn.swin import Swin

pytestmark = needs_onednn
SIZES = ((1, 3, 64, 96), (2, 3, 50, 70))


def swin():
    torch.manual_seed(0)
    return Swin(embed_dim=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 3, 4), window_size=4)


def hornet():
    """Small, with gammas that let blocks say something."""
    torch.manual_seed(0)
    sizes = (None, None, (12, 7), (6, 4))
    net = HorNet(dim=16, depths=(1, 1, 2, 1), orders=(2, 3, 4, 5), sizes=sizes)
    for name, value in net.named_parameters():
        if "gamma" in name or "norm" in name:
            value.data.uniform_(0.5, 1.5)
    return net


BACKBONES = {
    "R50": ResNet,
    "BN": lambda: ResNet(50, "BN"),
    "Swin": swin,
    "HorNet": hornet,
    "timm": lambda: TimmBackbone("test_resnet"),
    "timm, inverted": lambda: TimmBackbone("tf_efficientnet_lite0"),
    "timm, excited": lambda: TimmBackbone("mobilenetv3_small_050"),
    "timm, edge": lambda: TimmBackbone("test_efficientnet"),
    "timm, by parts": lambda: TimmBackbone("test_byobnet"),
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


@pytest.mark.parametrize("name", ["HorNet", "timm, inverted", "timm, excited"])
def test_bf16_maps_are_as_near_to_float32s_as_the_plain_backbones(name):
    plain, prepared = both(BACKBONES[name](), {}, torch.bfloat16)
    with torch.inference_mode():
        images = torch.randn(1, 3, 64, 96)
        exact = plain(images)
        with torch.autocast("cpu", torch.bfloat16):
            maps = zip(prepared(images), plain(images), exact, strict=True)
    for mine, theirs, wanted in maps:
        errors = [(x.float() - wanted).abs().mean() for x in (mine, theirs)]
        assert errors[0] < 1.5 * errors[1] and errors[0] < 0.05 * wanted.abs().mean()


@pytest.mark.parametrize("name", ["timm, inverted", "timm, excited", "timm, edge"])
def test_every_norm_of_a_known_block_is_inside_its_convolution(name):
    _, prepared = both(BACKBONES[name](), {})
    assert not [m for m in prepared.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_bias_norm_and_activation_in_turn_equal_the_packed_convolution():
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    plain, prepared = both(
        torch.nn.Sequential(conv, torch.nn.BatchNorm2d(8), torch.nn.Hardswish()), {}
    )
    kinds = (PackedConv, torch.nn.Identity, torch.nn.Identity)
    assert tuple(type(m) for m in prepared) == kinds
    with torch.inference_mode():
        x = torch.randn(1, 3, 20, 30)
        assert_alike(prepared(x), plain(x))


def test_a_convolution_whose_own_result_is_asked_for_keeps_its_norm():
    body = timm.create_model("ghostnet_050", features_only=True, out_indices=(0, 1))
    assert "conv_stem" in body.return_layers
    plain, prepared = both(body, {})
    with torch.inference_mode():
        x = torch.randn(1, 3, 64, 64)
        for mine, wanted in zip(prepared(x), plain(x), strict=True):
            assert_alike(mine, wanted)


@pytest.mark.parametrize("watched", [0, 1, 2])
def test_what_a_hook_watches_is_still_computed(watched):
    layers = (torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    model, seen = torch.nn.Sequential(*layers), []
    model[watched].register_forward_hook(lambda module, args, result: seen.append(result.clone()))
    plain, prepared = both(model, {})
    with torch.inference_mode():
        x = torch.randn(1, 3, 8, 8)
        assert_alike(prepared(x), plain(x))
    assert len(seen) == 2
    assert_alike(*seen)


@pytest.mark.parametrize(
    ("name", "watched"),
    [
        ("R50", ""),
        ("R50", "layers.1.0.conv2"),
        ("R50", "layers.3.1.bn3"),
        ("Swin", "layers.0.blocks.0.mlp.fc1"),
        ("HorNet", "stages.2.0.gnconv"),
        ("timm, inverted", "body.blocks.1.0.bn1.drop"),
    ],
)
def test_hooks_of_a_backbone_and_inside_still_run(name, watched):
    images = torch.randn(1, 3, 32, 32)
    assert_a_hook_still_runs(BACKBONES[name](), {}, watched, lambda model: model(images))


def test_packed_layers_take_no_rows_and_any_strides():
    layer = torch.nn.Linear(10, 7)
    packed = PackedLinear(layer.weight, layer.bias, torch.float32)
    with torch.inference_mode():
        for x in (torch.randn(0, 10), torch.randn(10), torch.randn(3, 20)[:, ::2]):
            torch.testing.assert_close(packed(x), layer(x))


def test_a_bias_with_a_stride_is_packed_side_by_side():
    bias, kind = torch.randn(7, 2)[:, 0], torch.float32
    with torch.inference_mode():
        x, image, weight = torch.randn(3, 10), torch.randn(1, 10, 8, 8), torch.randn(7, 10)
        wanted = torch.nn.functional.linear(x, weight, bias)
        torch.testing.assert_close(PackedLinear(weight, bias, kind)(x), wanted)
        kernel, conv = weight[..., None, None], torch.nn.Conv2d(10, 7, 1)
        wanted = torch.nn.functional.conv2d(image, kernel, bias)
        torch.testing.assert_close(PackedConv(conv, kernel, bias, kind)(image), wanted)


def test_a_module_in_two_places_is_one_afterwards():
    layer = torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(layer, torch.nn.Sequential(layer))
    mine = prepare(copy.deepcopy(model), torch.float32, {})
    assert isinstance(mine[0], PackedLinear) and mine[0] is mine[1][0]
