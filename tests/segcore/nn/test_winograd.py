"""Winograd's convolution against the plain one in float64."""

import pytest
import torch
from prepared_models import needs_kernels
from torch import nn
from torch.nn import functional as F

from segcore.nn.packed import PackedConv, missing_operator
from segcore.nn.winograd import (
    WinogradConv,
    has_winograd,
    learns_winograd,
    pack_winograd,
    trained_conv,
    use_winograd,
    winograd_conv,
)

pytestmark = pytest.mark.skipif(not has_winograd(), reason="ops/ is not built, or older")


@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 3), (17, 30), (50, 76)])
@pytest.mark.parametrize(("C", "D"), [(16, 48), (256, 32)])
def test_winograd_equals_the_convolution(monkeypatch, C, D, size, isa):
    monkeypatch.setenv("MSDA_ISA", isa)
    torch.manual_seed(0)
    x, weight = torch.randn(2, C, *size), torch.randn(D, C, 3, 3)
    bias, added = torch.randn(D), torch.randn(2, D, *size)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    packed = pack_winograd(weight)
    close = {"rtol": 0, "atol": 2e-5 * float(wanted.abs().max())}
    torch.testing.assert_close(
        winograd_conv(x, packed, bias, False), wanted, check_dtype=False, **close
    )
    x = x.to(memory_format=torch.channels_last)
    found = winograd_conv(x, packed, bias, True, added)
    torch.testing.assert_close(found, (wanted + added).relu(), check_dtype=False, **close)
    assert found.is_contiguous(memory_format=torch.channels_last)
    plain = winograd_conv(x, packed, None, False)
    torch.testing.assert_close(plain, wanted - bias[:, None, None], check_dtype=False, **close)


@pytest.mark.skipif(bool(missing_operator()), reason="this PyTorch has no packed layers")
def test_only_fitting_convolutions_of_a_prepared_model_are_replaced():
    convs = [
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.Conv2d(16, 24, 3, padding=1),
    ]
    model = nn.Sequential(*(PackedConv(c, c.weight, c.bias, torch.float32) for c in convs))
    x = torch.randn(1, 16, 20, 30)
    wanted = model(x)
    assert use_winograd(model) == 1
    assert [type(m) for m in model] == [WinogradConv] + 4 * [PackedConv]
    torch.testing.assert_close(model(x), wanted)
    small = nn.Sequential(PackedConv(convs[0], convs[0].weight, None, torch.bfloat16))
    assert use_winograd(small) == 0


def test_a_bias_with_a_stride_is_added_as_it_is():
    x, weight, bias = torch.zeros(1, 16, 4, 4), torch.zeros(32, 16, 3, 3), torch.randn(32, 2)[:, 1]
    found = winograd_conv(x, pack_winograd(weight), bias, False)
    assert torch.equal(found, bias[:, None, None].expand(1, 32, 4, 4))


@needs_kernels("0.1.1")
@pytest.mark.parametrize(("channels", "bias"), [(16, torch.zeros(32)[::2]), (0, None)])
def test_a_bias_with_a_stride_and_no_channels_raise_in_the_kernel(channels, bias):
    x, weight = torch.zeros(1, 4, 4, channels), torch.zeros(36, channels, channels)
    with pytest.raises(RuntimeError, match=r"winograd: (bias must be|channels must be)"):
        torch.ops.msda.winograd_conv(x, weight, bias, None, False)


def test_other_numbers_of_channels_raise():
    with pytest.raises(RuntimeError, match="channels must be multiples of 16; there are 8 and 16"):
        winograd_conv(torch.zeros(1, 8, 4, 4), torch.zeros(36, 8, 16), None, False)


@pytest.mark.skipif(not learns_winograd(), reason="ops/ is older than the gradients")
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (17, 30)])
@pytest.mark.parametrize(("C", "D"), [(16, 48), (256, 32)])
def test_gradients_equal_the_convolutions(monkeypatch, C, D, size, isa):
    monkeypatch.setenv("MSDA_ISA", isa)
    torch.manual_seed(0)
    x = torch.randn(2, C, *size, requires_grad=True)
    weight = torch.randn(D, C, 3, 3, requires_grad=True)
    wanted = F.conv2d(x.double(), weight.double(), padding=1)
    found = trained_conv(x, weight)
    grad = torch.randn(wanted.shape)
    exact = (wanted, *torch.autograd.grad(wanted, (x, weight), grad.double()))
    mine = (found, *torch.autograd.grad(found, (x, weight), grad))
    for a, b in zip(mine, exact, strict=True):
        close = {"rtol": 0, "atol": 2e-5 * float(b.detach().abs().max())}
        torch.testing.assert_close(a, b, check_dtype=False, **close)


@pytest.mark.skipif(not learns_winograd(), reason="ops/ is older than the gradients")
def test_what_needs_no_gradient_gets_none():
    x, weight = torch.randn(1, 16, 5, 6), torch.randn(16, 16, 3, 3)
    for value in (x, weight):
        value.requires_grad_(True)
        trained_conv(x, weight).sum().backward()
        assert value.grad is not None
        value.requires_grad_(False)
        value.grad = None
    assert x.grad is None and weight.grad is None


@pytest.mark.skipif(not learns_winograd(), reason="ops/ is older than the gradients")
def test_gradients_of_another_size_raise():
    x = torch.randn(1, 8, 8, 16)
    with pytest.raises(RuntimeError, match="like x"):
        torch.ops.msda.winograd_weight_gradient(x, torch.randn(1, 8, 7, 16))
