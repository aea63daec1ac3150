"""Mask Transfiner at test time: the published numbers, and what boxes owe each other."""

from functools import cache

import pytest
import torch
from refiner_inputs import arrays, detections, facts, masks_of, published_weights, pyramid
from torch.nn import functional as F

from maskrefine.quadtree import GRIDS, all_cells, candidates, chosen, corrected, most_uncertain
from maskrefine.regions import pool
from maskrefine.token_encoder import TokenEncoder, group_by_length
from maskrefine.transfiner import TransfinerHead
from segcore.errors import WeightsError
from segcore.structures import Regions


@cache
def published_head(folder):
    head = TransfinerHead()
    head.load_official(published_weights(folder, "transfiner"))
    return head.eval()


def close(found, wanted, atol=1e-4, rtol=1e-5):
    torch.testing.assert_close(found, wanted.to(found), atol=atol, rtol=rtol)


def test_names_and_shapes_equal_the_published_ones_both_ways(golden):
    state = published_weights(golden, "transfiner")
    head = published_head(golden)
    assert sum(p.numel() for p in head.parameters()) == facts(golden, "transfiner")["params"]
    back = head.official_state()
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}
    assert all(torch.equal(back[k], state[k]) for k in state)


def test_old_weights_without_a_boundary_branch_load_and_others_raise(golden):
    state = published_weights(golden, "transfiner")
    old = {k: v for k, v in state.items() if "_bo." not in k}
    TransfinerHead().load_official(old)
    with pytest.raises(WeightsError, match="missing"):
        TransfinerHead().load_official({k: v for k, v in state.items() if "conv_fuse" not in k})
    with pytest.raises(WeightsError, match="wrong shape"):
        TransfinerHead(num_classes=3).load_official(state)


@pytest.mark.slow
def test_pooled_features_equal_the_published_ones(golden):
    a = arrays(golden, "transfiner_inference")
    with torch.no_grad():
        regions = detections(golden, "transfiner_inference")
        look, _, logits, semantic = published_head(golden).first_look(pyramid(1, 18), regions)
    close(semantic[0].double().abs().sum((1, 2)), a["s_abssum"], rtol=1e-5)
    close(semantic[0, ::37, ::9, ::9], a["s_sample"])
    close(logits[:, 0], a["coarse_logits"])
    r = look.regions
    for down, grid in enumerate((14, *GRIDS)):
        source = look.pyramid if down else pyramid(1, 18)
        level = (look.level - down).clamp(min=0)
        pooled = pool(source, r.sample, r.boxes, grid, level=level)
        step = grid // 7
        close(pooled[:, ::37, ::step, ::step], a[f"x{grid}_sample"])
        close(pooled[:, ::16].double().abs().sum((2, 3)), a[f"x{grid}_abssum"], atol=0.02)


@pytest.mark.slow
def test_cells_tokens_and_masks_equal_the_published_ones(golden):
    a, head = arrays(golden, "transfiner_inference"), published_head(golden)
    with torch.no_grad():
        regions = detections(golden, "transfiner_inference")
        look, hidden, _, _ = head.first_look(pyramid(1, 18), regions)
        uncertain = head.uncertainty(look.pooled, hidden)
        cells = [all_cells(14, 6, hidden.device)]
        cells += chosen(candidates(uncertain, head.test_thresholds))
        tokens = head.encode(look, cells)
    close(uncertain[:, 0], a["U"])
    for c, grid in zip(cells[1:], GRIDS, strict=True):
        mask = c.write(torch.zeros(6, 1, grid, grid), torch.ones(len(c.box)))
        assert torch.equal(mask[:, 0].bool(), masks_of(a[f"T{grid}_bits"], grid))
    box = torch.cat([c.box for c in cells])
    by_box = tokens[box.argsort(stable=True)]  # box after box, grid after grid within
    assert torch.bincount(box).tolist() == a["token_probs_len"].tolist()
    close(by_box, a["token_probs_concat"])
    close(corrected(look, cells, tokens)[:, 0], a["pred_masks"])


@pytest.mark.slow
def test_only_the_first_ten_boxes_get_a_second_look(golden):
    a, head = arrays(golden, "transfiner_limit12"), published_head(golden)
    with torch.no_grad():
        regions = detections(golden, "transfiner_limit12")
        out = head(pyramid(1, 18), regions)
    masks = out.probabilities
    close(masks[9:], a["pred_from9"])
    close(masks.double().sum((1, 2)), a["pred_abssum"], atol=0.05)
    close(out.logits[0][9:, 0], a["coarse_logits_from9"])
    plain = F.interpolate(out.logits[0].sigmoid(), (112, 112), mode="bilinear")[:, 0]
    close(masks[10:], plain[10:], atol=1e-6)


# ------------------------------------------------------------ without recorded numbers


def small_head(**options):
    torch.manual_seed(3)
    head = TransfinerHead(num_classes=5, dim=16, **options).eval()
    torch.nn.init.normal_(head.uncertain[-1].weight, std=0.7)
    torch.nn.init.constant_(head.uncertain[-1].bias, -3.5)  # some cells of every grid, not most
    return head


def small_pyramid(samples=2):
    torch.manual_seed(4)
    return [torch.randn(samples, 16, 64 >> i, 64 >> i) for i in range(4)]


def some_regions(count=5, samples=2):
    torch.manual_seed(5)
    start = torch.rand(count, 2) * 100
    boxes = torch.cat((start, start + 20 + 100 * torch.rand(count, 2)), dim=1)
    sample = torch.arange(count) * samples // count
    return Regions(sample, boxes, torch.arange(count) % 5)


@pytest.mark.parametrize("fill", [0, 0.75, 1])
def test_all_boxes_at_once_equal_one_box_after_another(fill):
    torch.manual_seed(0)
    encoder = TokenEncoder(dim=32, ffn_dim=64).eval()
    lengths = torch.tensor([7, 30, 1, 31, 12])
    box = torch.arange(5).repeat_interleave(lengths)[torch.randperm(81)]
    features, coarse, code = torch.randn(81, 32), torch.rand(81), torch.randn(81, 32)
    assert sum(len(g.rows) for g in group_by_length(box, 5, fill)) == 5
    together = encoder(features, coarse, code, box, 5)
    one_by_one = torch.empty(81)
    for b in range(5):
        on = box == b
        x = encoder.fuse(torch.cat((features[on], coarse[on, None]), 1).T[None, :, :, None])
        x, position = x[0, :, :, 0].T[:, None], code[on][:, None]
        for layer in encoder.layers:
            read, _ = layer.self_attn(x + position, x + position, x)
            x = layer.norm1(x + read)
            x = layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
        hidden, last = encoder.answer
        answer = last(F.relu(hidden(x.permute(1, 2, 0)[..., None]))).sigmoid()
        one_by_one[on] = answer.flatten()
    torch.testing.assert_close(together, one_by_one, atol=2e-6, rtol=1e-5)


def test_a_batch_equals_its_images_and_its_boxes_one_by_one():
    head, features, regions = small_head(test_limit=None), small_pyramid(), some_regions(3)
    with torch.no_grad():
        together = head(features, regions).probabilities
        for i, sample in enumerate(regions.sample.tolist()):
            own = [f[sample : sample + 1] for f in features]
            alone = head.refine(own, regions.boxes[i : i + 1], regions.labels[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=2e-5, rtol=1e-4)


def test_an_image_without_cells_at_56_goes_straight_to_112():
    head, features, regions = small_head(test_thresholds=(2, 2, 2)), small_pyramid(), some_regions()
    with torch.no_grad():
        look, *_ = head.first_look(features, regions)
        masks = head(features, regions).probabilities
    wanted = F.interpolate(look.masks, (112, 112), mode="bilinear", align_corners=True)
    torch.testing.assert_close(masks, wanted[:, 0])


def test_only_so_many_least_sure_cells_of_each_grid_get_a_second_look():
    torch.manual_seed(0)
    unsure = torch.rand(2, 1, 28, 28)
    masks = candidates(unsure, (0.9, 0.5, 0.999))
    kept = most_uncertain(unsure, masks, 40)
    for before, after in zip(masks, kept, strict=True):
        there = F.interpolate(unsure, after.shape[-2:])[:, 0]
        assert (after <= before).all()
        for box in range(2):
            most = min(40, int(before[box].sum()))
            assert after[box].sum() == most
            left_out = there[box][before[box] & ~after[box]]
            assert not len(left_out) or left_out.max() <= there[box][after[box]].min()
    everything = most_uncertain(unsure, masks, 112 * 112)
    assert all(torch.equal(a, b) for a, b in zip(masks, everything, strict=True))


def test_limits_count_the_batch_or_each_image():
    sample = torch.tensor([0, 0, 0, 1, 1])
    assert small_head()._first(sample, 2).tolist() == [0, 1]
    assert small_head()._first(sample, None).tolist() == [0, 1, 2, 3, 4]
    assert small_head(limit_per_image=True)._first(sample, 2).tolist() == [0, 1, 3, 4]


def test_no_box_and_one_box():
    head, features = small_head(), small_pyramid(1)
    with torch.no_grad():
        assert head.refine(features, torch.zeros(0, 4), torch.zeros(0).long()).shape == (
            0,
            112,
            112,
        )
        masks = head.refine(features, torch.tensor([[3.0, 4, 50, 90]]), torch.tensor([2]))
    assert masks.shape == (1, 112, 112) and masks.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_masks(dtype):
    head, features, regions = small_head(test_limit=1), small_pyramid(), some_regions(2)
    with torch.no_grad():
        wanted = head(features, regions).probabilities
        with torch.autocast("cpu", dtype):
            masks = head([f.to(dtype) for f in features], regions).probabilities
    assert masks.dtype == torch.float32
    assert (masks - wanted).abs().mean() < 0.02
