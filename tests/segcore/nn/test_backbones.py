"""Backbones: the folded path against plain layers, norms, and any network of timm."""

import copy

import pytest
import torch
from torch import nn

from segcore.errors import ConfigError
from segcore.nn.backbones import (
    FrozenBatchNorm2d,
    ResNet,
    SyncBatchNorm2d,
    TimmBackbone,
    conv_norm,
)
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin

IMAGES = torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(0)) * 4 - 2


def shaken(model):
    """Statistics and gains that are not zeros and ones."""
    torch.manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith(("running_var", "running_mean")) or value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return model


def plain(model, x):
    """The same network, layer by layer, as timm runs it."""
    x = nn.functional.max_pool2d(torch.relu(model.bn1(model.conv1(x))), 3, 2, 1)
    features = []
    for layer in model.layers:
        x = layer(x)
        features.append(x)
    return features


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN"])
@pytest.mark.parametrize("training", [False, True])
def test_folding_changes_nothing(norm, training):
    model = shaken(ResNet(50, norm)).train(training)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for ours, theirs in zip(model(IMAGES), plain(other, IMAGES), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max())
    for name, value in other.state_dict().items():  # running statistics moved alike
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, nn.BatchNorm2d])
def test_folding_has_the_same_gradients(norm):
    conv, norm = nn.Conv2d(3, 4, 3, bias=False).double(), shaken(norm(4)).double().eval()
    x = IMAGES[:, :, :9, :9].double().requires_grad_()
    wanted = [x, *conv.parameters(), *norm.parameters()]
    pairs = [
        torch.autograd.grad(y.square().sum(), wanted)
        for y in (conv_norm(x, conv, norm), norm(conv(x)))
    ]
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [False, True])
def test_synchronised_norm_of_one_gpu_equals_the_plain_one_of_the_cpu(training):
    norm = shaken(SyncBatchNorm2d(3)).train(training)
    other = copy.deepcopy(norm)
    pairs = []
    for forward in (norm, lambda x: nn.SyncBatchNorm.forward(other, x)):  # a GPU's way
        x = IMAGES.clone().requires_grad_()
        y = forward(x)
        pairs.append((y, *torch.autograd.grad(y.square().sum(), x)))
    torch.testing.assert_close(*pairs)
    torch.testing.assert_close(other.state_dict(), norm.state_dict())


def test_strides_channels_and_what_trains():
    model = ResNet(101)
    features = model(torch.zeros(1, 3, 64, 96))
    for x, stride, channels in zip(features, model.strides, model.channels, strict=True):
        assert x.shape == (1, channels, 64 // stride, 96 // stride)
    assert sum(p.numel() for p in model.parameters()) == 42_394_816
    assert len(model.state_dict()) == 520
    assert not any("bn" in name for name, _ in model.named_parameters())


def test_convolutions_and_norms_that_hooks_watch_are_computed_one_after_the_other():
    conv, norm, seen = nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4), []
    norm.running_mean.fill_(2)
    wanted = conv_norm(IMAGES, conv, norm, relu=True)
    for layer in (conv, norm):
        handle = layer.register_forward_hook(lambda module, args, result: seen.append(result))
        torch.testing.assert_close(conv_norm(IMAGES, conv, norm, relu=True), wanted)
        handle.remove()
    torch.testing.assert_close(seen[0], conv(IMAGES))
    assert len(seen) == 2


def test_frozen_norm_is_an_identity_at_first_and_never_moves():
    norm = FrozenBatchNorm2d(3)
    torch.testing.assert_close(norm(IMAGES), IMAGES)
    assert not list(norm.parameters())
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var"}


def test_convolutions_start_as_published():
    torch.manual_seed(0)
    weight = ResNet(50).layers[3][0].conv2.weight  # (512, 512, 3, 3)
    # fan out
    assert float(weight.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "resnet18"])
def test_any_network_of_timm(name):
    model = TimmBackbone(name).eval()
    with torch.no_grad():
        features = model(torch.zeros(1, 3, 64, 96))
    for x, stride, channels in zip(features, model.strides, model.channels, strict=True):
        assert x.shape == (1, channels, 64 // stride, 96 // stride)


def test_channels_last_networks_are_turned_even_where_sizes_are_ambiguous():
    model = TimmBackbone("swin_tiny_patch4_window7_224", drop_path=0.2).eval()
    assert model.body.layers_3.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)
    image = torch.rand(1, 3, 384, 32)  # 96 rows of 8 cells, and 96 channels
    with torch.no_grad():
        first = model(image)[0]
    assert first.shape == (1, 96, 96, 8)


def test_frozen_norm_of_timm_stays_still():
    model = TimmBackbone("resnet18", frozen_norm=True).train()
    before = copy.deepcopy(model.state_dict())
    model(IMAGES)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not model.body.bn1.weight.requires_grad
    assert model.body.conv1.weight.requires_grad


def test_what_does_not_fit_is_told():
    with pytest.raises(ConfigError, match=r"\[16, 16, 16\], without 4, 8, 32"):
        TimmBackbone("vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match=r"no model 'resnet5000'; similar: .*resnet"):
        TimmBackbone("resnet5000")
    with pytest.raises(ConfigError, match="drop_path_rate"):
        TimmBackbone("vgg11", drop_path=0.1)
    with pytest.raises(ConfigError, match="'GN': expected one of FrozenBN"):
        ResNet(50, "GN")
    with pytest.raises(ConfigError, match="DEPTH 18"):
        ResNet(18)


@pytest.mark.parametrize(
    "make",
    [
        lambda on: ResNet(50, use_checkpoint=on),
        lambda on: Swin(embed_dim=12, depths=(1, 1, 2, 1), use_checkpoint=on),
        lambda on: HorNet(dim=16, depths=(1, 1, 1, 1), use_checkpoint=on),
        lambda on: TimmBackbone("convnext_atto", use_checkpoint=on),
    ],
)
def test_activations_computed_again_give_the_same_gradients(make):
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        model = make(on).train()
        images = torch.randn(1, 3, 64, 64)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x
        ):
            maps = model(images)
        sum(x.square().mean() for x in maps).backward()
        found.append(([p.grad for p in model.parameters()], sum(kept)))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[1][1] < 0.7 * found[0][1]


def test_blocks_with_statistics_are_not_computed_twice():
    for make in (lambda: ResNet(50, "BN", use_checkpoint=True),
                 lambda: TimmBackbone("resnet18", use_checkpoint=True)):  # fmt: skip
        with pytest.raises(ConfigError, match="USE_CHECKPOINT true computes blocks twice"):
            make()
