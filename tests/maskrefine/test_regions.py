"""Which level a box reads, and what it reads there."""

import torch

from maskrefine.regions import MMDET_LEVELS, pool, pyramid_levels


def square(side):
    return torch.tensor([[10.0, 20.0, 10.0 + side, 20.0 + side]])


def test_large_boxes_read_coarse_levels():
    sides = (10, 111, 112, 223, 224, 447, 448, 2000)
    for options in ({}, MMDET_LEVELS):
        found = [pyramid_levels(square(side), **options).item() for side in sides]
        assert found == [0, 0, 1, 1, 2, 2, 3, 3]


def test_every_box_reads_its_own_level_of_its_own_sample():
    sides, strides = (64, 32, 16, 8), (4, 8, 16, 32)
    maps = [torch.full((2, 3, n, n), float(i)) for i, n in enumerate(sides)]
    for m in maps:
        m[1] += 10
    boxes = torch.cat([square(50.0)] * 4)
    sample, level = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 3, 1, 2])
    found = pool(maps, sample, boxes, 2, level=level, strides=strides)
    assert found.shape == (4, 3, 2, 2)
    assert found[:, 0, 0, 0].tolist() == [0, 13, 11, 2]


def test_a_ramp_is_read_at_the_cells_centres():
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)  # cell x is centred at pixel 4 x + 2
    box = torch.tensor([[16.0, 40.0, 48.0, 56.0]])
    found = pool([ramp], torch.tensor([0]), box, 4)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([20.0, 28, 36, 44]) / 4 - 0.5)


def test_half_precision_is_read_in_float32_and_no_box_gives_no_region():
    features = [torch.rand(1, 2, 8, 8).bfloat16()] * 4
    none = torch.zeros(0, dtype=torch.long)
    found = pool(features, none, torch.zeros(0, 4), 7, level=none)
    assert found.shape == (0, 2, 7, 7) and found.dtype == torch.float32
