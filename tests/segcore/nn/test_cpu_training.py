"""Layers trained on a CPU: results and gradients of the plain ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segcore.nn.backbones import FrozenBatchNorm2d, conv_norm
from segcore.nn.cpu_training import (
    Linear,
    feed_forward,
    linear,
    mask_products,
    train_on_cpu,
)
from segcore.nn.layers import Attention, ConvNorm
from segcore.nn.packed import missing_operator
from segcore.nn.winograd import learns_winograd

pytestmark = pytest.mark.skipif(bool(missing_operator()), reason=f"no {missing_operator()}")


def leaves(*shapes):
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def assert_same_gradients(mine, plain, values, bound=1e-5):
    """Of a weighted sum of two results of the same leaves."""
    weights = torch.randn(plain.shape)
    torch.testing.assert_close(mine, plain, atol=bound, rtol=bound)
    wanted = torch.autograd.grad((plain * weights).sum(), values, retain_graph=True)
    found = torch.autograd.grad((mine * weights).sum(), values)
    for a, b in zip(found, wanted, strict=True):
        close = bound * max(1.0, float(b.abs().max()) if b.numel() else 0.0)
        torch.testing.assert_close(a, b, atol=close, rtol=bound)


@pytest.mark.parametrize("rows", [(), (0,), (1,), (2, 50)])
def test_linear_equals_torchs(rows):
    x, weight, bias = leaves((*rows, 20), (7, 20), (7,))
    assert_same_gradients(linear(x, weight, bias), F.linear(x, weight, bias), (x, weight, bias))
    assert_same_gradients(linear(x, weight, None), F.linear(x, weight), (x, weight))


def test_linear_of_a_part_of_weights_and_inputs_equals_torchs():
    x, weight, bias = leaves((30, 40), (21, 20), (21,))
    some = x[:, ::2], weight[7:14], bias[::3]
    assert_same_gradients(linear(*some), F.linear(*some), (x, weight, bias))


def test_linear_without_inputs_equals_torchs_and_with_too_many_raises_the_same():
    weight, bias = torch.zeros(7, 0), torch.randn(7)
    assert torch.equal(linear(torch.zeros(5, 0), weight, bias), bias.expand(5, 7))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(5, 3), torch.randn(7, 4), bias)


def test_a_second_derivative_raises_instead_of_being_wrong():
    x, weight, bias = leaves((5, 4), (3, 4), (3,))
    y = linear(x, weight, bias).square().sum()
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_frozen_parts_get_no_gradients():
    x, weight, bias = leaves((5, 4), (3, 4), (3,))
    weight.requires_grad_(False)
    linear(x, weight, bias).sum().backward()
    assert weight.grad is None and x.grad is not None
    torch.testing.assert_close(bias.grad, torch.full((3,), 5.0))


def test_linear_under_autocast_is_torchs():
    x, weight, bias = leaves((50, 20), (7, 20), (7,))
    with torch.autocast("cpu", torch.bfloat16):
        mine, plain = linear(x, weight, bias), F.linear(x, weight, bias)
    assert mine.dtype == torch.bfloat16 and torch.equal(mine, plain)


def test_feed_forward_equals_two_layers():
    torch.manual_seed(0)
    first, second, x = nn.Linear(12, 30), nn.Linear(30, 12), torch.randn(2, 9, 12)
    values = (x.requires_grad_(), *first.parameters(), *second.parameters())
    plain = second(F.relu(first(x)))
    assert_same_gradients(feed_forward(x, first, second), plain, values)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_feed_forward_in_what_onednn_lacks_is_two_layers(kind, mixed):
    torch.manual_seed(0)
    first, second, x = nn.Linear(12, 30), nn.Linear(30, 12), torch.randn(2, 9, 12)
    x.requires_grad_()
    if not mixed:
        first, second, x = (part.to(kind) for part in (first, second, x))
    with torch.autocast("cpu", torch.float16, enabled=mixed):
        mine, plain = feed_forward(x, first, second), second(F.relu(first(x)))
    assert mine.dtype == plain.dtype and torch.equal(mine, plain)


@pytest.mark.parametrize("bias", [False, True])
def test_feed_forward_calls_layers_that_are_more_than_weight_and_bias(bias):
    first, second, x = nn.Linear(12, 30, bias=bias), nn.Linear(30, 12), torch.randn(2, 9, 12)
    hidden = []
    second.register_forward_pre_hook(lambda module, args: hidden.append(args[0]))
    mine = feed_forward(x, first, second)
    assert len(hidden) == 1 and torch.equal(mine, second(F.relu(first(x))))


def test_feed_forward_in_bf16_is_as_near_to_fp32_as_two_layers():
    torch.manual_seed(0)
    first, second = nn.Linear(64, 128), nn.Linear(128, 64)
    x = torch.randn(200, 64, requires_grad=True)
    exact = second(F.relu(first(x)))
    with torch.autocast("cpu", torch.bfloat16):
        plain, mine = second(F.relu(first(x))), feed_forward(x, first, second)
    assert mine.dtype == plain.dtype
    values = (x, *first.parameters(), *second.parameters())
    wanted, theirs, ours = (
        torch.autograd.grad(y.float().square().sum(), values) for y in (exact, plain, mine)
    )
    for a, b, c in zip(wanted, theirs, ours, strict=True):
        assert (c - a).norm() < 1.5 * (b - a).norm() + 1e-3 * a.norm()


@pytest.mark.parametrize("images", [1, 3])
def test_mask_products_have_the_gradients_of_the_rows_that_are_looked_at(images):
    features, *given = leaves((images, 8, 40), *[(images, 6, 8)] * 3, *[(images, 6)] * 3)
    layers, offsets = given[:3], given[3:]
    mine = mask_products(features, layers, offsets)
    assert [x.shape for x in mine] == [(images, 6, 40)] * 3
    few = torch.zeros(3, images, 6, 1)
    few[0, 0, 2:4] = few[2, -1, 5] = 1  # of a layer and an image none
    pairs = zip(layers, offsets, strict=True)
    plain = torch.stack([x @ features + offset[..., None] for x, offset in pairs])
    assert_same_gradients(torch.stack(mine) * few, plain * few, (features, *given))


@pytest.mark.parametrize("masked", [True, False])
def test_attention_in_bf16_is_as_near_to_fp32_as_the_plain_one(masked):
    torch.manual_seed(0)
    plain, x = Attention(32, 4), torch.randn(2, 40, 32, requires_grad=True)
    mask = (torch.rand(2, 40, 40) > 0.5) | torch.eye(40, dtype=torch.bool) if masked else None
    exact = plain(x, x, x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = plain(x, x, x, mask)
        train_on_cpu(plain, {})
        ours = plain(x, x, x, mask)
    assert ours.dtype == theirs.dtype
    values = (x, *plain.parameters())
    wanted, others, found = (
        (y, *torch.autograd.grad(y.float().square().sum(), values)) for y in (exact, theirs, ours)
    )
    for a, b, c in zip(wanted, others, found, strict=True):
        assert (c - a).norm() < 2 * (b - a).norm() + 1e-3 * a.norm()


@pytest.mark.skipif(not learns_winograd(), reason="ops/ is not built, or older")
@pytest.mark.parametrize(("size", "gains"), [((20, 30), True), ((8, 8), False)])
def test_large_maps_are_convolved_by_winograd(size, gains):
    torch.manual_seed(0)
    plain = ConvNorm(16, 32, 3, relu=True)
    x = torch.randn(1, 16, *size, requires_grad=True)
    wanted = plain(x)
    train_on_cpu(plain, {})
    mine = plain(x)
    assert ("TrainedConv" in names_of_graph(mine)) is gains
    assert_same_gradients(mine, wanted, (x, *plain.parameters()), bound=5e-5)


@pytest.mark.skipif(not learns_winograd(), reason="ops/ is not built, or older")
def test_plain_convolutions_and_those_with_a_frozen_norm_inside_are_convolved_by_winograd():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(16, 32, 3, padding=1), FrozenBatchNorm2d(32)
    bare, strided = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.Conv2d(16, 32, 3, 2, padding=1)
    norm.weight.copy_(torch.rand(32) + 0.5)
    net = nn.ModuleList([conv, bare, strided])
    x = torch.randn(1, 16, 20, 30, requires_grad=True)

    def results():
        return conv(x), conv_norm(x, bare, norm, relu=True), strided(x)

    wanted = results()
    train_on_cpu(net, {})
    mine = results()
    assert ["TrainedConv" in names_of_graph(y) for y in mine] == [True, True, False]
    for y, other, layer in zip(mine, wanted, net, strict=True):
        assert_same_gradients(y, other, (x, *layer.parameters()), bound=5e-5)


def test_an_image_alone_is_convolved_as_one_of_a_batch():
    plain, x = nn.Conv2d(16, 16, 3, padding=1), torch.randn(16, 20, 30)
    wanted = plain(x)
    train_on_cpu(plain, {})
    torch.testing.assert_close(plain(x), wanted)


def names_of_graph(result):
    """Of what backward goes through."""
    names, open_nodes = set(), [result.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        names.add(type(node).__name__)
        open_nodes += [other for other, _ in node.next_functions if other is not None]
    return " ".join(names)


def test_attention_equals_the_plain_one():
    torch.manual_seed(0)
    plain, x = Attention(16, 4), torch.randn(2, 5, 16, requires_grad=True)
    wanted = plain(x, x, x)
    train_on_cpu(plain, {})
    assert type(plain) is not Attention and type(plain.out_proj) is Linear
    assert_same_gradients(plain(x, x, x), wanted, (x, *plain.parameters()))
