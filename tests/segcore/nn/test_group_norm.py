"""The compiled group norm against PyTorch's in float64."""

import pytest
import torch
from prepared_models import needs_kernels
from torch import nn
from torch.nn import functional as F

from segcore.nn import ms_deform_attn
from segcore.nn.group_norm import group_norm_, has_group_norm

compiled = pytest.mark.skipif(
    not has_group_norm(torch.zeros(1, 16, 1, 1)), reason="ops/ is not built, or older"
)


def norm_of(channels, groups):
    norm = nn.GroupNorm(groups, channels).requires_grad_(False)
    norm.weight.normal_()
    norm.bias.normal_()
    return norm


def wanted_of(x, norm, relu=False, coarse=None):
    y = F.group_norm(
        x.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps
    )
    if coarse is not None:
        y = y + F.interpolate(coarse.double(), y.shape[-2:], mode="bilinear")
    return y.relu() if relu else y


@compiled
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize(("channels", "groups"), [(16, 16), (48, 3), (256, 32)])
def test_it_equals_pytorch(monkeypatch, channels, groups, isa):
    monkeypatch.setenv("MSDA_ISA", isa)
    torch.manual_seed(0)
    norm = norm_of(channels, groups)
    close = {"rtol": 1e-5, "atol": 2e-5, "check_dtype": False}
    for size in ((1, 9), (3, 5), (50, 61)):  # more pixels than one sum is of
        x = torch.randn(2, channels, *size) * 3 + 5
        coarse = torch.randn(2, channels, (size[0] + 1) // 2, size[1] + 2)
        for relu, added in ((False, None), (True, None), (True, coarse), (False, coarse)):
            mine = group_norm_(x.clone(), norm, relu=relu, coarse=added)
            torch.testing.assert_close(mine, wanted_of(x, norm, relu, added), **close)
            assert mine.is_contiguous(memory_format=torch.channels_last)


@compiled
def test_a_channels_last_map_is_overwritten_or_written_elsewhere():
    torch.manual_seed(0)
    norm, x = norm_of(32, 4), torch.randn(2, 32, 6, 7).contiguous(memory_format=torch.channels_last)
    wanted = wanted_of(x, norm).float()
    tokens = torch.zeros(2, 100, 32)
    part = tokens[:, 10:52].unflatten(1, (6, 7)).permute(0, 3, 1, 2)
    assert group_norm_(x, norm, out=part) is part
    torch.testing.assert_close(part, wanted)
    assert not tokens[:, :10].any() and not tokens[:, 52:].any()
    mine = group_norm_(x, norm)
    torch.testing.assert_close(mine, wanted)
    assert mine.data_ptr() == x.data_ptr()


@needs_kernels("0.1.1")
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("mean", [100.0, 10_000.0])
def test_maps_far_from_zero_are_as_near_to_float64s_as_pytorchs(monkeypatch, mean, isa):
    monkeypatch.setenv("MSDA_ISA", isa)
    torch.manual_seed(0)
    norm, x = norm_of(32, 4), torch.randn(2, 32, 50, 61) + mean
    wanted = wanted_of(x, norm)
    theirs, mine = ((y - wanted).abs().max() for y in (norm(x), group_norm_(x, norm)))
    assert mine < 2 * theirs


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_norms_that_the_kernel_does_not_take_are_pytorchs(kind):
    norms = nn.GroupNorm(4, 32, affine=False), norm_of(32, 4).bfloat16()
    norm, x = norms[kind == torch.bfloat16], torch.randn(2, 32, 6, 8).to(kind)
    torch.testing.assert_close(group_norm_(x.clone(), norm), norm(x))


@compiled
def test_a_bf16_map_becomes_float32():
    torch.manual_seed(0)
    norm, x, coarse = norm_of(32, 4), torch.randn(2, 32, 6, 8).bfloat16(), torch.randn(2, 32, 3, 4)
    mine = group_norm_(x, norm, coarse=coarse)
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, wanted_of(x, norm, coarse=coarse).float())


@compiled
def test_what_it_does_not_take_raises():
    maps = torch.zeros(1, 2, 2, 24)
    with pytest.raises(RuntimeError, match="multiple of 16 and of the groups; there are 24 and 2"):
        torch.ops.msda.group_norm(maps, maps, 2, torch.ones(24), torch.ones(24), 1e-5, False, None)


def test_without_kernels_it_is_pytorchs(monkeypatch):
    monkeypatch.setattr(ms_deform_attn, "compiled", None)
    torch.manual_seed(0)
    norm, x, coarse = norm_of(16, 4), torch.randn(2, 16, 6, 8), torch.randn(2, 16, 3, 4)
    out = torch.empty(2, 16, 6, 8)
    mine = group_norm_(x.clone(), norm, relu=True, coarse=coarse, out=out)
    wanted = wanted_of(x, norm, True, coarse).float()
    assert mine is out
    torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)
