"""Mask Transfiner in training: the published draws, targets, losses and gradients."""

import pytest
import torch
from refiner_inputs import (
    arrays,
    facts,
    masks_of,
    objects,
    proposals,
    published_weights,
    pyramid,
    total_gradients,
)
from torch.nn import functional as F

from maskrefine import transfiner_losses as learned
from maskrefine.quadtree import GRIDS, candidates, draw
from maskrefine.transfiner import TransfinerHead
from segcore.structures import Regions, Targets

NAMES = ("loss_mask", "loss_mask_uncertain", "loss_mask_refine", "loss_semantic", "loss_bound")
GOLDEN = "transfiner_train"


def published_head(folder, dropout=0.0, added=0.0):
    head = TransfinerHead(dropout=dropout)
    head.load_official(published_weights(folder, "transfiner"))
    with torch.no_grad():
        head.uncertain[-1].bias += added
    return head.train()


def published_objects(folder):
    a, sizes = (
        arrays(folder, GOLDEN),
        [tuple(s) for s in facts(folder, "transfiner")["image_sizes"]],
    )
    masks = []
    for i, (h, w) in enumerate(sizes):
        bitmaps = masks_of(a[f"gt_bit_{i}"], h, w)
        masks.append(F.pad(bitmaps, (0, 320 - w, 0, 256 - h)))  # as a batch pads them
    return objects(folder, "transfiner", masks, sizes)


def step(folder, dropout=0.0, added=0.0):
    """What the head says of the recorded proposals, from the recorded seed."""
    head = published_head(folder, dropout, added)
    torch.manual_seed(0)
    return head(pyramid(2, 18), proposals(folder, GOLDEN))


def close(found, wanted, atol=1e-4, rtol=1e-5):
    torch.testing.assert_close(found, wanted.to(found), atol=atol, rtol=rtol)


def by_box(tokens, count):
    """Tokens grid by grid, box by box within each cell -> (V, tokens of a box)."""
    return tokens.view(-1, count).T


def test_what_is_said_equals_the_published_numbers(golden):
    a = arrays(golden, GOLDEN)
    with torch.no_grad():
        said = step(golden)
    extras = said.extras
    close(said.logits[0][:, 0], a["coarse_logits"])
    close(extras["uncertain"][:, 0], a["U"])
    close(extras["semantic"][:, 0], a["pred_semantic"])
    close(extras["boundary"][:, 0], a["pred_boundary"])
    close(by_box(extras["tokens"], 7), a["token_probs"])
    wanted = torch.from_numpy(masks_of(a["token_targets_bits"], 1, 646).numpy())[:, 0]
    tokens = learned.token_targets(said, published_objects(golden))
    assert torch.equal(by_box(tokens, 7).bool(), wanted)


def test_candidates_and_draws_equal_the_published_ones(golden):
    a = arrays(golden, GOLDEN)
    masks = candidates(a["U"][:, None], (0.125, 0.5, 0.5))
    for mask, grid in zip(masks, GRIDS, strict=True):
        assert torch.equal(mask, masks_of(a[f"cand{grid}_bits"], grid))
    torch.manual_seed(0)
    assert torch.equal(draw(a["candidates"].tolist(), 150), a["perm"].long())
    counts = [c for c in facts(golden, "transfiner")["variant_partial"]["candidates"] if min(c) > 9]
    torch.manual_seed(0)
    wanted = arrays(golden, "transfiner_train_variants")["partial_perm"].long()
    assert torch.equal(draw(counts, 150), wanted)


def test_targets_equal_the_published_ones(golden):
    a, regions, truth = arrays(golden, GOLDEN), proposals(golden, GOLDEN), published_objects(golden)
    for size in (14, 28, 56, 112):
        masks = learned.mask_targets(regions, truth, size, least_side=learned.LEAST_SIDE)
        assert torch.equal(masks, masks_of(a[f"target_mask{size}_bits"], size))
    mask28 = masks_of(a["target_mask28_bits"], 28)
    assert torch.equal(learned.boundary(mask28), masks_of(a["target_boundary_bits"], 28))
    cells, semantic = learned.pixel_targets(regions, truth, (64, 80))
    assert torch.equal(cells, masks_of(a["target_U_bits"], 28))
    assert torch.equal(semantic[:, 0], masks_of(a["target_semantic_bits"], 64, 80))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["", "variant_partial", "variant_novalid"])
def test_losses_and_gradients_equal_the_published_ones(golden, variant):
    known = facts(golden, "transfiner")
    wanted = known[variant] if variant else known | {"losses": known["losses_dropout0"]}
    head = published_head(golden, added=wanted.get("added_to_predictor_uncertain_bias", 0.0))
    regions, truth = proposals(golden, GOLDEN), published_objects(golden)
    torch.manual_seed(0)

    def losses(features):
        return learned.transfiner_losses(head(features, regions), truth)

    found, weights, maps = total_gradients(head, pyramid(2, 18), losses)
    assert tuple(found) == NAMES
    assert found == pytest.approx(wanted["losses"], rel=1e-5)
    assert weights == pytest.approx(wanted["grads"], rel=1e-3, abs=1e-6)
    assert maps == pytest.approx(wanted["feature_grads"], rel=1e-3)


@pytest.mark.slow
def test_losses_with_dropout_equal_the_published_ones(golden):
    with torch.no_grad():
        said = step(golden, dropout=0.1)
        found = learned.transfiner_losses(said, published_objects(golden))
    wanted = facts(golden, "transfiner")["losses_dropout0.1"]
    assert {k: v.item() for k, v in found.items()} == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["partial", "novalid"])
def test_tokens_of_skipped_boxes_equal_the_published_ones(golden, variant):
    a = arrays(golden, "transfiner_train_variants")
    added = facts(golden, "transfiner")[f"variant_{variant}"]["added_to_predictor_uncertain_bias"]
    with torch.no_grad():
        said = step(golden, added=added)
    wanted = a[f"{variant}_token_probs"]
    close(by_box(said.extras["tokens"], len(wanted)), wanted)
    tokens = by_box(learned.token_targets(said, published_objects(golden)), len(wanted))
    bits = masks_of(a[f"{variant}_token_targets_bits"], 1, wanted.shape[1])[:, 0]
    assert torch.equal(tokens.bool(), bits)


# ------------------------------------------------------------ without recorded numbers


def small_head(**options):
    torch.manual_seed(3)
    head = TransfinerHead(num_classes=5, dim=16, samples=20, **options)
    torch.nn.init.normal_(head.uncertain[-1].weight, std=2.0)
    return head.train()


def small_step(head, count, dtype=None):
    """Gradients of the losses of `count` regions in two images."""
    torch.manual_seed(4)
    features = [torch.randn(2, 16, 64 >> i, 64 >> i) for i in range(4)]
    start = torch.rand(count, 2) * 100
    boxes = torch.cat((start, start + 20 + 100 * torch.rand(count, 2)), dim=1)
    rows = torch.arange(count)
    regions = Regions(rows * 2 // max(count, 1), boxes, rows % 5, matched=rows % 3)
    truth = []
    for _ in range(2):
        masks = torch.zeros(3, 1, 256, 256, dtype=torch.bool)
        masks[:, :, 40:120, 30:150] = True
        truth.append(Targets(torch.zeros(3).long(), masks, torch.ones(3, 1, dtype=torch.bool)))
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        losses = learned.transfiner_losses(head(features, regions), truth)
    sum(losses.values()).backward()
    return losses


@pytest.mark.parametrize("least", [10, 1000])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_weight_learns_or_waits_whatever_the_boxes(count, least):
    head = small_head(least=least)
    losses = small_step(head, count)
    assert tuple(losses) == NAMES
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_to_nearly_the_same_losses(dtype):
    wanted, found = (
        small_step(small_head(dropout=0.0), 4),
        small_step(small_head(dropout=0.0), 4, dtype),
    )
    for name in ("loss_mask", "loss_mask_uncertain", "loss_semantic", "loss_bound"):
        torch.testing.assert_close(found[name], wanted[name], atol=0.02, rtol=0.02)
    assert found["loss_mask_refine"].isfinite()


def test_an_image_without_regions_has_no_semantic_target():
    masks = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    truth = [Targets(torch.zeros(1).long(), masks, torch.ones(1, 1, dtype=torch.bool))] * 2
    zero = torch.zeros(1).long()
    regions = Regions(zero, torch.tensor([[4.0, 4, 60, 60]]), zero, matched=zero)
    _, semantic = learned.pixel_targets(regions, truth, (16, 16))
    assert semantic[0].all() and not semantic[1].any()


def test_more_boxes_than_the_limit_learn_no_tokens():
    head = small_head(train_limit=2, least=1)
    said = head(
        [torch.randn(1, 16, 64 >> i, 64 >> i) for i in range(4)],
        Regions(
            torch.zeros(4).long(),
            torch.tensor([[10.0, 10, 90, 90]] * 4),
            torch.zeros(4).long(),
            matched=torch.zeros(4).long(),
        ),
    )
    assert said.extras["cells14"][0].unique().tolist() == [0, 1]


def test_many_objects_are_cut_as_each_alone():
    torch.manual_seed(0)
    masks = torch.rand(40, 1, 48, 64) > 0.5
    truth = [Targets(torch.zeros(40).long(), masks, torch.ones(40, 1, dtype=torch.bool))]
    matched = torch.randint(40, (60,))
    start = torch.rand(60, 2) * 20
    boxes = torch.cat((start, start + 4 + 20 * torch.rand(60, 2)), dim=1)
    zero = torch.zeros(60).long()
    together = Regions(zero, boxes, zero, matched=matched)
    cells, semantic = learned.pixel_targets(together, truth, (12, 16))
    cut = learned.mask_targets(together, truth, 14, least_side=0.1)
    union = torch.zeros_like(semantic)
    for i in range(60):
        alone = Regions(zero[:1], boxes[i, None], zero[:1], matched=matched[i, None])
        own, pixels = learned.pixel_targets(alone, truth, (12, 16))
        union |= pixels
        assert torch.equal(own[0], cells[i])
        assert torch.equal(learned.mask_targets(alone, truth, 14, least_side=0.1)[0], cut[i])
    assert torch.equal(union, semantic)
