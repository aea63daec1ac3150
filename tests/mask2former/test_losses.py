"""Matcher, criterion and point sampling against the published formulas and in odd cases."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from mask2former import criterion as criterion_module
from mask2former import matcher as matcher_module
from mask2former.criterion import Criterion
from mask2former.matcher import Matcher, Weights
from segcore.nn import points as points_file
from segcore.nn.points import as_quickly_read, sample_bool, sample_points, sample_rows
from segcore.structures import Prediction, Targets

K, Q = 4, 6


def targets(N, T=1, seed=0, size=(32, 40)):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(N, T, *size, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        y, x = (int(torch.randint(0, side // 2, (), generator=generator)) for side in size)
        mask[y : y + 13, x : x + 17] = True
    return Targets(torch.arange(N) % K, masks, torch.ones(N, T, dtype=torch.bool))


def prediction(B=1, T=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, Q, K + 1, generator=generator)
    masks = 3 * torch.randn(B, Q, T, 8, 10, generator=generator)
    return Prediction(logits.requires_grad_(), masks.requires_grad_())


def criterion(num_points=64, draw=torch.rand, **options):
    weights = Weights()
    matcher = Matcher(weights, num_points, draw)
    return Criterion(matcher=matcher, weights=weights, num_points=num_points, draw=draw, **options)


def same_points(*shape, device):
    """For every mask of every layer."""
    generator = torch.Generator().manual_seed(shape[-2])
    return torch.rand(shape[-2:], generator=generator).expand(shape)


def test_bool_masks_read_like_float_ones():
    masks = targets(3, 2).masks
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(3, 500, 2, generator=generator) * 1.2 - 0.1  # some lie outside
    wanted = sample_points(masks.float(), points)
    rows = torch.tensor([2, 0, 1, 2])
    own = points[rows, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(sample_rows(masks, rows, own), wanted[rows], atol=2e-5, rtol=0)
    wanted = sample_points(masks.float(), points[:1].expand(3, -1, -1))
    torch.testing.assert_close(sample_bool(masks, points[0]), wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("rows", [[2, 0, 1], [2, 0, 2], [0, 1], []])
def test_float_masks_read_like_bool_ones(rows, monkeypatch):
    masks = targets(3, 2).masks
    generator = torch.Generator().manual_seed(2)
    own = torch.rand(len(rows), 2, 40, 2, generator=generator) * 1.2 - 0.1
    shared, rows = torch.rand(40, 2, generator=generator), torch.tensor(rows, dtype=torch.long)
    close = {"atol": 2e-5, "rtol": 0}
    few = as_quickly_read(masks)
    assert few.dtype == torch.float32
    torch.testing.assert_close(sample_rows(few, rows, own), sample_rows(masks, rows, own), **close)
    torch.testing.assert_close(sample_bool(few, shared), sample_bool(masks, shared), **close)
    assert sample_bool(few[:0], shared).shape == (0, 2, 40)
    monkeypatch.setattr(points_file, "BUDGET", masks.numel() - 1)
    assert as_quickly_read(masks) is masks


@pytest.mark.parametrize("views", [1, 7, 8, 100])
def test_views_are_looked_up_alike_by_any_number_of_threads(views):
    generator = torch.Generator().manual_seed(2)
    maps, points = (
        torch.rand(shape, generator=generator) for shape in ((1, views, 9, 8), (1, 30, 2))
    )
    wanted = F.grid_sample(maps, (2 * points - 1)[:, :, None], align_corners=False)[..., 0]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 16):
            torch.set_num_threads(threads)
            assert torch.equal(sample_points(maps, points), wanted)
    finally:
        torch.set_num_threads(before)


def test_values_looked_up_a_few_masks_at_a_time_are_bit_equal(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    masks = torch.rand(7, 2, 9, 11, generator=generator) > 0.5
    rows = torch.tensor([3, 0, 6, 6, 1])
    own, shared = (torch.rand(*shape, 13, 2, generator=generator) for shape in ((5, 2), ()))
    whole = sample_rows(masks, rows, own), sample_bool(masks, shared)
    for budget in (1, 4 * 2 * 13 * 3):
        monkeypatch.setattr(points_file, "BUDGET", budget)
        assert torch.equal(sample_rows(masks, rows, own), whole[0])
        assert torch.equal(sample_bool(masks, shared), whole[1])
    assert sample_rows(masks, rows[:0], own[:0]).shape == (0, 2, 13)
    assert sample_bool(masks[:0], shared).shape == (0, 2, 13)


def published_pairs(layer, target, num_points):
    """Costs as the paper's code writes them, for one image."""
    points = torch.rand(1, num_points, 2).expand(Q, -1, -1)
    pred = sample_points(layer.masks[0], points).flatten(1)
    goal = sample_points(target.masks.float(), points[:1].expand(len(target.masks), -1, -1))
    goal = goal.flatten(1)
    one = F.binary_cross_entropy_with_logits(pred, torch.ones_like(pred), reduction="none")
    nil = F.binary_cross_entropy_with_logits(pred, torch.zeros_like(pred), reduction="none")
    mask = (one @ goal.T + nil @ (1 - goal).T) / pred.shape[1]
    p = pred.sigmoid()
    dice = 1 - (2 * p @ goal.T + 1) / (p.sum(1)[:, None] + goal.sum(1)[None] + 1)
    label = -layer.logits[0].softmax(-1)[:, target.labels]
    return linear_sum_assignment((5 * mask + 2 * label + 5 * dice).detach())


@pytest.mark.parametrize(("N", "T"), [(1, 1), (4, 1), (3, 3), (9, 1)])
def test_matching(N, T):
    layer, target = prediction(T=T), targets(N, T)
    torch.manual_seed(5)
    wanted = published_pairs(layer, target, 64)
    torch.manual_seed(5)
    ((queries, segments),) = Matcher(Weights(), 64)([layer], [target])[0]
    assert queries.tolist() == wanted[0].tolist() and segments.tolist() == wanted[1].tolist()
    assert len(queries) == min(N, Q)


@pytest.mark.parametrize("large", [0, matcher_module.LARGE])
def test_layers_are_matched_together_as_alone(monkeypatch, large):
    """Also where assignments run side by side."""
    monkeypatch.setattr(matcher_module, "LARGE", large)
    layers = [prediction(2, seed=s) for s in (1, 2, 3)]
    wanted = [targets(2), targets(3, seed=4)]
    torch.manual_seed(0)
    together = Matcher(Weights(), 64)(layers, wanted)
    torch.manual_seed(0)
    alone = [Matcher(Weights(), 64)([layer], wanted)[0] for layer in layers]
    for a, b in zip(together, alone, strict=True):
        for (q, n), (r, m) in zip(a, b, strict=True):
            assert torch.equal(q, r) and torch.equal(n, m)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_costs_that_are_not_finite_still_match(bad, caplog):
    matcher_module._say_once.cache_clear()
    layer = prediction()
    with torch.no_grad():
        layer.masks[0, 2] = bad
        layer.logits[0, 3] = float("nan")
    with caplog.at_level(logging.WARNING):
        ((queries, segments),) = Matcher(Weights(), 64)([layer], [targets(3)])[0]
    assert sorted(segments.tolist()) == [0, 1, 2] and len(set(queries.tolist())) == 3
    assert "not finite" in caplog.text


def test_a_perfect_prediction_costs_nothing():
    target = targets(3)
    masks = torch.full((1, Q, 1, 32, 40), -50.0)
    masks[0, :3] = target.masks.float() * 100 - 50
    logits = torch.zeros(1, Q, K + 1)
    logits[0, torch.arange(3), target.labels] = 50.0
    logits[0, 3:, K] = 50.0
    losses = criterion(2000)([Prediction(logits, masks)], [target], 3.0)
    assert losses["loss_ce"] < 1e-6
    # points between an inside and an outside pixel see a soft target
    assert losses["loss_dice"] < 0.5 * 5
    wrong = criterion(2000)([Prediction(logits, -masks)], [target], 3.0)
    assert all(wrong[name] >= losses[name] for name in losses)
    assert wrong["loss_mask"] > 20 * losses["loss_mask"]


def test_no_target_anywhere_keeps_the_graph():
    layers = [prediction(2, seed=s) for s in (1, 2)]
    losses = criterion()(layers, [targets(0), targets(0)], 1.0)
    assert losses["loss_mask"] == losses["loss_dice_0"] == 0
    sum(losses.values()).backward()
    for layer in layers:
        assert layer.logits.grad.any() and not layer.masks.grad.any()


@pytest.mark.parametrize("budget", [1 << 28, 8000, 1])
@pytest.mark.parametrize("T", [1, 2])
@pytest.mark.parametrize("counts", [(2, 3), (0, 9), (1, 0), (0, 0)])
def test_all_layers_at_once_equal_one_by_one(counts, T, budget, monkeypatch):
    """As a GPU has them and as the CPU; nine segments are more than there are queries."""
    monkeypatch.setattr(criterion_module, "BUDGET", budget)
    wanted = [targets(N, T, seed) for seed, N in enumerate(counts)]
    wanted[1].present[1:3] = False  # shows nowhere: takes no part
    found = []
    for published in (True, False):
        layers = [prediction(2, T, seed) for seed in range(4)]
        losses = criterion(draw=same_points, published_order=published)(layers, wanted, 3.0)
        sum(losses.values()).backward()
        grads = [x.grad for layer in layers for x in (layer.logits, layer.masks)]
        found.append((losses, grads))
    assert list(found[0][0]) == list(found[1][0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)


def test_segments_that_show_nowhere_are_not_matched():
    target = targets(3)
    target.present[1] = False
    ((_, segments),) = Matcher(Weights(), 64)([prediction()], [target])[0]
    assert sorted(segments.tolist()) == [0, 2]


def test_losses_grow_with_the_frames_and_not_with_the_count():
    """Upstream divides by segments, not by segments x views."""
    still, target = prediction(), targets(2)
    clip = Prediction(still.logits, still.masks.expand(-1, -1, 3, -1, -1))
    views = Targets(target.labels, target.masks.expand(-1, 3, -1, -1), torch.ones(2, 3) > 0)
    one = criterion(4000)([still], [target], 2.0)
    three = criterion(4000)([clip], [views], 2.0)
    assert float(three["loss_mask"].detach() / one["loss_mask"].detach()) == pytest.approx(
        3, rel=0.1
    )
    assert torch.isclose(three["loss_ce"], one["loss_ce"])
    halved = criterion(4000)([still], [target], 4.0)
    assert float(halved["loss_mask"].detach() / one["loss_mask"].detach()) == pytest.approx(
        0.5, rel=0.1
    )


def test_points_are_where_the_prediction_is_in_doubt():
    masks = torch.linspace(-9, 9, 20).expand(1, 1, 20, 20)  # in doubt along the middle
    (points,) = criterion(400)._points(masks)
    assert points.shape == (1, 400, 2)
    distance = (points[0, :, 0] - 0.5).abs()
    # outside reads as zero, so that the map's border is in doubt a little further out
    assert (distance[:300] < 0.27).all() and (distance[300:] > 0.27).any()


def test_half_precision_predictions_lose_nothing_in_the_losses():
    layer, target = prediction(), targets(3)
    half = Prediction(layer.logits.detach().bfloat16(), layer.masks.detach().bfloat16())
    same = Prediction(half.logits.float(), half.masks.float())
    found = []
    for each in (half, same):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            found.append(criterion()([each], [target], 3.0))
    for name, value in found[0].items():
        assert value.dtype == torch.float32
        np.testing.assert_allclose(value, found[1][name], rtol=1e-5)


def test_the_label_behind_the_last_trains_a_query_as_no_object_with_a_mask():
    """What the published video code does to an object that is absent from a clip's last frame."""
    truth, layer = targets(2, T=2), prediction(T=2)
    same = criterion(draw=same_points)
    right = same([layer], [truth], 2.0)
    absent = replace(truth, labels=torch.tensor([0, K]))
    wrong = same([layer], [absent], 2.0)
    queries, segments = same.matcher([layer], [absent])[0][0]
    goal = torch.full((1, Q), K)
    goal[0, queries[segments == 0]] = 0
    weight = torch.ones(K + 1)
    weight[K] = 0.1
    ce = F.cross_entropy(layer.logits.transpose(1, 2), goal, weight)
    assert wrong["loss_ce"].item() == pytest.approx(2 * ce.item(), rel=1e-5)
    assert wrong["loss_ce"].item() != pytest.approx(right["loss_ce"].item(), rel=1e-2)
    assert wrong["loss_mask"].item() > 0
