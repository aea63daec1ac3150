"""Which box stands for which object, which are drawn, and true masks inside boxes."""

import numpy as np
import pytest
import torch

from maskrefine.boxes import clip, decode, encode, has_area
from maskrefine.matching import choose, match
from maskrefine.targets import CHUNK, boxes_of_masks, mask_targets, masks_inside, true_boxes
from segcore.structures import Polygons, Regions, Targets

OVERLAPS = torch.tensor(  # three objects, six boxes
    [
        [0.80, 0.60, 0.20, 0.00, 0.10, -1.0],
        [0.75, 0.65, 0.40, 0.00, 0.20, -1.0],
        [0.00, 0.10, 0.40, 0.05, 0.00, -1.0],
    ]
)


def labels(**options):
    index, label = match(OVERLAPS, low=0.3, high=0.7, **options)
    return index.tolist(), label.tolist()


def test_thresholds_part_objects_background_and_neither():
    assert labels(best=None, rematched=False) == ([0, 1, 1, 2, 1, 0], [1, -1, -1, 0, 0, -1])


def test_an_object_keeps_its_best_box_however_low():
    index, label = labels(best=0.0, rematched=False)
    assert label == [1, -1, 1, 0, 0, -1]  # the third object's best is box 2, at 0.4
    assert index == [0, 1, 1, 2, 1, 0]  # which is still said to be the second object


def test_a_best_box_may_be_rematched():
    index, label = labels(best=0.3, rematched=True)
    assert label == [1, -1, 1, 0, 0, -1]
    assert index == [1, 1, 2, 2, 1, 0]  # box 0 is the best of two objects: the last one's


def test_without_objects_all_is_background():
    index, label = match(torch.zeros(0, 4), low=0.3, high=0.7, best=0.0, rematched=True)
    assert index.tolist() == label.tolist() == [0, 0, 0, 0]


def test_choice_has_the_asked_shares_and_background_fills_up():
    torch.manual_seed(0)
    kinds = torch.full((2, 1000), -1)
    kinds[0, :300], kinds[0, 300:900] = 1, 0
    kinds[1, :20], kinds[1, 20:500] = 1, 0
    index, valid = choose(kinds, 256, 0.5)
    picked = kinds.gather(1, index).masked_fill(~valid, -2)
    assert [(row == 1).sum().item() for row in picked] == [128, 20]
    assert [(row == 0).sum().item() for row in picked] == [128, 236]
    assert not (picked == -1).any()
    for row, on in zip(index, valid, strict=True):
        assert len(row[on].unique()) == 256
    assert not torch.equal(index[0, :128].sort().values, index[0, :128])  # at random, not the first


def test_deltas_lead_to_their_goal_and_sizes_are_limited():
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0]])
    goals = torch.tensor([[0.0, 0.0, 100.0, 10.0]])
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(decode(boxes, encode(boxes, goals, weights), weights), goals)
    far = torch.tensor([[0.0, 0.0, -10.0, 10.0]])
    width = {limited: decode(boxes, far, shrink_limited=limited)[0] for limited in (False, True)}
    assert width[False][2] - width[False][0] == pytest.approx(40 * np.exp(-10), rel=1e-3)
    assert width[True][2] - width[True][0] == pytest.approx(40 * 16 / 1000, rel=1e-3)
    assert width[True][3] - width[True][1] == pytest.approx(20 * 1000 / 16, rel=1e-4)


def test_boxes_are_cut_to_each_image():
    boxes = torch.tensor([[[-5.0, -5.0, 500.0, 500.0]], [[90.0, 10.0, 95.0, 20.0]]])
    cut = clip(boxes, torch.tensor([[30.0, 40.0], [50.0, 60.0]])[:, None])
    assert cut.tolist() == [[[0, 0, 40, 30]], [[60, 10, 60, 20]]]
    assert has_area(cut).tolist() == [[True], [False]]


def discs(count, H=40, W=50):
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    return torch.stack([(x - 20 - i) ** 2 + (y - 15) ** 2 <= 36 for i in range(count)])


def test_boxes_of_masks_are_tight_and_zero_where_nothing_is():
    masks = torch.cat((discs(2), torch.zeros(1, 40, 50, dtype=torch.bool)))
    assert boxes_of_masks(masks).tolist() == [[14, 9, 27, 22], [15, 9, 28, 22], [0, 0, 0, 0]]


def test_masks_inside_their_own_box_equal_their_pixels():
    masks = discs(CHUNK + 3)
    boxes = boxes_of_masks(masks)  # 13 x 13 pixels
    index = torch.arange(len(masks)).flip(0)
    found = masks_inside(masks, index, boxes[index], 13)
    for row, i in zip(found, index.tolist(), strict=True):
        assert torch.equal(row, masks[i, 9:22, 14 + i : 27 + i])
    assert masks_inside(masks, index[:0], boxes[:0], 28).shape == (0, 28, 28)


def test_polygons_count_before_pixels_and_pixels_where_there_are_none():
    present = torch.ones(2, 1, dtype=torch.bool)
    square = Polygons(((10.5, 5.0, 30.5, 5.0, 30.5, 25.0, 10.5, 25.0),))
    targets = Targets(torch.tensor([0, 1]), discs(2)[:, None], present, [square, None])
    assert true_boxes(targets).tolist() == [[10.5, 5, 30.5, 25], [15, 9, 28, 22]]
    none = Targets(torch.zeros(0, dtype=torch.int64), discs(1)[:0, None], present[:0])
    regions = Regions(
        torch.tensor([1, 1, 1]),
        torch.tensor([[10.5, 5.0, 30.5, 25.0], [15.0, 9, 28, 22], [30.5, 5.0, 50.0, 25.0]]),
        torch.zeros(3, dtype=torch.int64),
        matched=torch.tensor([0, 1, 0]),
    )
    found = mask_targets(regions, [none, targets], 13, least_side=0.1)
    assert found[0].all() and not found[2].any()
    assert torch.equal(found[1], discs(2)[1, 9:22, 15:28])


def test_an_outline_cut_to_a_line_has_its_pixels_box():
    line = Polygons(((-20.0, 5.0, 0.0, 5.0, 0.0, 25.0, -20.0, 25.0),))
    present = torch.ones(1, 1, dtype=torch.bool)
    targets = Targets(torch.tensor([0]), discs(1)[:, None], present, [line])
    assert true_boxes(targets).tolist() == [[14, 9, 27, 22]]
