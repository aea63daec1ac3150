"""RefineMask's two heads: the published numbers at test time and in training."""

from functools import cache

import pytest
import torch
from refiner_inputs import (
    arrays,
    detections,
    facts,
    masks_of,
    objects,
    proposals,
    published_weights,
    pyramid,
    total_gradients,
)

from maskrefine.boundary_aware import band, finer_in_band, merged, stage_losses
from maskrefine.refinemask import RefineMaskHead, centre_pool
from maskrefine.refinemask_losses import (
    SIMPLE_WEIGHTS,
    WEIGHTS,
    instance_targets,
    refinemask_losses,
    semantic_targets,
)
from maskrefine.regions import pool
from segcore.structures import Regions, Targets

SIZES = (14, 28, 56, 112)
HEADS = ("refinemask", "refinemask_simple")


@cache
def published_head(folder, name):
    head = RefineMaskHead(simple=name == "refinemask_simple")
    head.load_official(published_weights(folder, name))
    return head.eval()


@cache
def inference(folder, name):
    """The head's stages before merging, and what it answers."""
    head, regions = published_head(folder, name), detections(folder, f"{name}_inference")
    with torch.no_grad():
        answer = head(pyramid(1, 8), regions)
        regions.matched = torch.zeros_like(regions.labels)  # as in training: nothing is merged
        return head(pyramid(1, 8), regions), answer


def truth_of(folder, name, drawn=True):
    a = arrays(folder, f"{name}_train")
    masks = [masks_of(a[f"gt_bitmap_{i}_bits"], 256, 320) for i in range(2)]
    return objects(folder, name, masks, drawn=drawn)


def close(found, wanted, atol=1e-4, rtol=1e-5):
    torch.testing.assert_close(found, wanted.to(found), atol=atol, rtol=rtol)


@pytest.mark.parametrize("name", HEADS)
def test_names_and_shapes_equal_the_published_ones_both_ways(golden, name):
    state, head = published_weights(golden, name), published_head(golden, name)
    assert sum(p.numel() for p in head.parameters()) == facts(golden, name)["params"]
    back = head.official_state()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_masks_equal_the_published_ones(golden, name):
    a, (stages, answer) = arrays(golden, f"{name}_inference"), inference(golden, name)
    for k, logits in enumerate(stages.logits):
        close(logits[:, 0], a[f"stage{k}_logits"])
    if name == "refinemask":
        close(stages.extras["semantic"][0, 0], a["semantic_logits"])
    close(answer.logits[-1][:, 0], a["merged_logits"])
    close(answer.probabilities, a["merged_logits"].sigmoid())
    near28, near56 = (band(answer.logits[k].sigmoid() >= 0.5, 1)[:, 0] for k in (1, 2))
    assert torch.equal(near28, masks_of(a["boundary28_bits"], 28))
    assert torch.equal(near56, masks_of(a["boundary56_bits"], 56))


def test_boundaries_in_training_equal_the_published_ones(golden):
    for name in HEADS:
        a = arrays(golden, f"{name}_train")
        stages = [a[f"stage{k}_logits"][:, None] for k in range(3)]
        targets = [masks_of(a[f"target{s}_polygon_bits"], s)[:, None] for s in SIZES]
        for k, s in ((1, 28), (2, 56)):
            before = stages[1] if k == 1 else finer_in_band(stages[1], stages[2])
            said = before.sigmoid() >= 0.5
            maps = band(said, 2), band(targets[k], 2), band(said, 1)
            for i, (found, width) in enumerate(zip(maps, (2, 2, 1), strict=True)):
                wanted = a[f"block_call{3 * k - 3 + i}_w{width}_boundary_bits"]
                assert torch.equal(found[:, 0], masks_of(wanted, s))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("kind", ["polygon", "bitmap"])
def test_targets_equal_the_published_ones(golden, name, kind):
    a, truth = arrays(golden, f"{name}_train"), truth_of(golden, name, drawn=kind == "polygon")
    masks = instance_targets(proposals(golden, f"{name}_train"), truth, SIZES)
    for found, s in zip(masks, SIZES, strict=True):
        assert torch.equal(found[:, 0], masks_of(a[f"target{s}_{kind}_bits"], s))
    if name == "refinemask":
        wanted = masks_of(a[f"target_semantic_{kind}_bits"], 64, 80)
        assert torch.equal(semantic_targets(truth, (64, 80))[:, 0], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_losses_and_gradients_equal_the_published_ones(golden, name):
    a, known, head = (
        arrays(golden, f"{name}_train"),
        facts(golden, name),
        published_head(golden, name),
    )
    regions, truth = proposals(golden, f"{name}_train"), truth_of(golden, name)
    weights = SIMPLE_WEIGHTS if head.simple else WEIGHTS
    assert list(weights) == known["stage_weights"]
    kept = []

    def losses(features):
        kept.append(head(features, regions))
        return refinemask_losses(kept[0], truth, weights=weights)

    found, gradients, maps = total_gradients(head, pyramid(2, 8), losses)
    assert found == pytest.approx(known["losses_polygon"], rel=1e-5)
    assert gradients == pytest.approx(known["grads"], rel=1e-3, abs=1e-6)
    assert maps == pytest.approx([g or 0 for g in known["feature_grads"]], rel=1e-3)
    said = kept[0]
    for k, logits in enumerate(said.logits):
        close(logits.detach()[:, 0, :: k // 3 + 1, :: k // 3 + 1], a[f"stage{k}_logits"])
    by_bitmap = refinemask_losses(said, truth_of(golden, name, drawn=False), weights=weights)
    found = {k: v.item() for k, v in by_bitmap.items()}
    assert found == pytest.approx(known["losses_bitmap"], rel=1e-5)
    masks = instance_targets(regions, truth, SIZES)
    each = [loss.item() for loss in stage_losses(said.logits, masks)]
    assert each == pytest.approx(known["loss_per_stage_unweighted"], rel=1e-5)


# ------------------------------------------------------------ without recorded numbers


def small_head(simple, **options):
    torch.manual_seed(3)
    return RefineMaskHead(num_classes=5, dim=32, simple=simple, **options).eval()


def small_pyramid(samples=2):
    torch.manual_seed(4)
    return [torch.randn(samples, 32, 64 >> i, 64 >> i) for i in range(4)]


def some_regions(count=5, matched=False):
    torch.manual_seed(5)
    start = torch.rand(count, 2) * 100
    boxes = torch.cat((start, start + 20 + 100 * torch.rand(count, 2)), dim=1)
    rows = torch.arange(count)
    regions = Regions(rows * 2 // max(count, 1), boxes, rows % 5)
    regions.matched = rows % 3 if matched else None
    return regions


def some_truth(empty=False):
    masks = torch.zeros(3, 1, 256, 256, dtype=torch.bool)
    masks[:, :, 40:120, 30:150] = not empty
    one = Targets(torch.zeros(3).long(), masks, torch.ones(3, 1, dtype=torch.bool))
    none = Targets(torch.zeros(0).long(), masks[:0], torch.ones(0, 1, dtype=torch.bool))
    return [one, none if empty else one]


def test_boundaries_count_cells_of_the_other_kind():
    mask = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    mask[..., 2:7, :5] = True
    near = band(mask, 1)[0, 0]
    assert near[2, 0] and near[4, 0]  # the box's border is a boundary of what is inside
    assert near[1, 2] and near[4, 5] and near[1, 5]  # one cell out, corners too
    assert not near[4, 2] and not near[0, 0] and not near[8, 8]
    alone = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    alone[..., 4, 4] = True
    assert band(alone, 2).sum() == 1  # one of 25 is less than a tenth; 24 are more


def test_a_finer_stage_counts_near_the_boundary_only():
    coarse = torch.full((1, 1, 28, 28), -5.0)
    coarse[..., 8:20, 8:20] = 5
    fine = torch.full((1, 1, 56, 56), 0.25)
    finer = finer_in_band(coarse, fine)[0, 0]
    assert finer[16, 30] == 0.25 and finer[28, 28] == 5 and finer[2, 2] == -5
    assert len(merged([coarse, coarse, fine])) == 3


@pytest.mark.parametrize("simple", [False, True])
def test_a_batch_equals_its_boxes_one_by_one_and_in_parts(simple):
    features, regions = small_pyramid(), some_regions()
    with torch.no_grad():
        together = small_head(simple)(features, regions).probabilities
        parts = small_head(simple, at_once=2)(features, regions).probabilities
        torch.testing.assert_close(parts, together, atol=1e-5, rtol=1e-4)
        for i, sample in enumerate(regions.sample.tolist()):
            own = [f[sample : sample + 1] for f in features]
            alone = small_head(simple).refine(own, regions.boxes[i, None], regions.labels[i, None])
            torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("simple", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("empty", [False, True])
def test_every_weight_learns_or_waits_whatever_the_boxes(simple, count, empty):
    head, regions = small_head(simple), some_regions(count, matched=True)
    regions.sample[:] = 0
    losses = refinemask_losses(head(small_pyramid(), regions), some_truth(empty))
    assert set(losses) == ({"loss_instance"} if simple else {"loss_instance", "loss_semantic"})
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("simple", [False, True])
def test_no_box_gives_no_mask(simple):
    out = small_head(simple)(small_pyramid(), some_regions(0))
    assert [m.shape[-1] for m in out.logits] == list(SIZES)
    assert out.probabilities.shape == (0, 112, 112)


@pytest.mark.parametrize("simple", [False, True])
def test_half_precision_gives_nearly_the_same_losses(simple):
    head, regions, truth = small_head(simple), some_regions(matched=True), some_truth()
    wanted = refinemask_losses(head(small_pyramid(), regions), truth)
    with torch.autocast("cpu", torch.bfloat16):
        found = refinemask_losses(head(small_pyramid(), regions), truth)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=0.02, rtol=0.02)


def test_last_stage_of_any_class_has_one_output():
    head = small_head(False, last_of_any_class=True)
    assert [conv.out_channels for conv in head.logits] == [5, 5, 5, 1]
    assert small_head(True).logits[3].out_channels == 1
    with torch.no_grad():
        assert head(small_pyramid(), some_regions()).probabilities.isfinite().all()


def test_centres_read_as_grid_sample_does_outside_the_feature_too():
    torch.manual_seed(0)
    feature = torch.randn(2, 3, 16, 24)
    boxes = torch.tensor([[-30.0, -9, 20, 40], [70, 30, 120, 90], [10, 10, 50, 50]])
    sample, cells = torch.tensor([0, 1, 1]), (torch.arange(7) + 0.5) / 7
    found = centre_pool(feature, sample, boxes, 7)
    for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        y, x = torch.meshgrid(y0 + cells * (y1 - y0), x0 + cells * (x1 - x0), indexing="ij")
        grid = torch.stack((x / 4 / 24, y / 4 / 16), dim=-1) * 2 - 1
        one = feature[sample[i], None]
        wanted = torch.nn.functional.grid_sample(one, grid[None], align_corners=False)
        torch.testing.assert_close(found[i], wanted[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, pool([feature], sample, boxes, 7, sampling=1))
