"""Merge of crop views and the painter of entities, against plain ones that hold everything."""

import pytest
import torch

from cropformer.merge import make_views, may_be_inside, paint, probability
from cropformer.windows import crop_windows
from segcore.nn import ms_deform_attn
from segcore.nn.mask_rles import has_compiled


def plain_merge(logits, scores, canvas, sizes, boxes, size):
    """The published merge and painter in float64, with everything in memory."""
    queries, views = logits.shape[:2]
    full = torch.nn.functional.interpolate(logits.double(), canvas, mode="bilinear")
    total, seen = torch.zeros(queries, *size, dtype=torch.float64), torch.zeros(size)
    for v in range(views):
        (h, w), (x0, y0, x1, y1) = sizes[v], boxes[v]
        part = torch.nn.functional.interpolate(
            full[:, v : v + 1, :h, :w], (y1 - y0, x1 - x0), mode="bilinear"
        )
        total[:, y0:y1, x0:x1] += part[:, 0].sigmoid()
        seen[y0:y1, x0:x1] += 1
    mean = total / seen
    owner = torch.full(size, -1)
    for q in scores.argsort().tolist():  # worst first, painted over by better ones
        owner[mean[q] > 0.5] = q
    return mean, owner, seen


def test_merge_and_painter_equal_plain_ones():
    torch.manual_seed(3)
    size = (50, 70)
    boxes = [[0, 0, 70, 50], *map(list, crop_windows(size))]
    sizes = [(64, 90)] * 5
    logits, scores = 3 * torch.randn(6, 5, 16, 24), torch.rand(6)
    mean, owner, seen = plain_merge(logits, scores, (64, 96), sizes, boxes, size)
    assert sorted(seen.unique().tolist()) == [2, 3, 5]
    views = make_views((16, 24), (64, 96), sizes, boxes, logits)
    for q in range(6):
        ours = probability(logits[q], views, (slice(0, 50), slice(0, 70)))
        assert (ours - mean[q]).abs().max() < 1e-5
        part = probability(logits[q], views, (slice(7, 31), slice(20, 66)))
        assert (part - mean[q][7:31, 20:66]).abs().max() < 1e-5
    painted = paint(logits, scores, views, size)
    assert (painted.owner != owner).float().mean() < 1e-3
    assert painted.areas.tolist() == [int((painted.owner == q).sum()) for q in range(6)]
    inside = mean[int(scores.argmax())].sigmoid()
    best = owner == int(scores.argmax())
    assert float(painted.quality[scores.argmax()]) == pytest.approx(
        float(inside[best].mean()), rel=1e-3
    )


@pytest.mark.skipif(
    not has_compiled(torch.zeros(0), "paint_entities"), reason="ops/ is not built, or older"
)
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize(
    ("count", "shift", "size"),
    [(5, 0, (50, 70)), (5, -4, (133, 91)), (1, -2, (97, 40)), (1, 1, (16, 200))],
)
def test_the_compiled_painter_equals_the_one_in_torch(monkeypatch, count, shift, size, isa):
    torch.manual_seed(4)
    monkeypatch.setenv("MSDA_ISA", isa)
    boxes = [[0, 0, size[1], size[0]], *map(list, crop_windows(size))][:count]
    sizes = [(64, 90), (50, 70), (64, 96), (1, 96), (63, 5)][:count]
    logits, scores = 3 * torch.randn(12, count, 16, 24) + shift, torch.rand(12)
    logits[2], scores[7] = -1, scores[5]
    views = make_views((16, 24), (64, 96), sizes, boxes, logits)
    compiled = paint(logits, scores, views, size)
    monkeypatch.setattr(ms_deform_attn, "compiled", None)
    wanted = paint(logits, scores, views, size)
    assert torch.equal(compiled.owner, wanted.owner)
    assert torch.equal(compiled.areas, wanted.areas)
    assert 1 < (wanted.areas > 0).sum() < 12
    torch.testing.assert_close(compiled.quality, wanted.quality, rtol=0, atol=1e-6)


def test_nothing_is_inside_outside_the_box_that_is_looked_at():
    torch.manual_seed(5)
    boxes = [[0, 0, 70, 50], *map(list, crop_windows((50, 70)))]
    for shift in (-2.0, -6.0, -9.0, -30.0):
        mask = 3 * torch.randn(5, 16, 24) + shift
        views = make_views((16, 24), (64, 96), [(60, 84)] * 5, boxes, mask)
        whole = probability(mask, views, (slice(0, 50), slice(0, 70)))
        (region,) = may_be_inside(mask[None], views)
        if region is None:
            assert (whole <= 0.5).all()
            continue
        whole[region] = 0
        assert (whole <= 0.5).all()


def test_a_half_is_background():
    masks = torch.zeros(2, 1, 4, 4)
    views = make_views((4, 4), (16, 16), [(16, 16)], [[0, 0, 16, 16]], masks)
    painted = paint(masks, torch.tensor([0.3, 0.9]), views, (16, 16))
    assert (painted.owner == -1).all()
    assert painted.quality.tolist() == [0, 0]
