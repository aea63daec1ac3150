"""Training transforms."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from segcore.data.transforms import (
    Axis,
    Example,
    FixedSizeCrop,
    ResizeShortestEdge,
    shortest_edge,
)


def test_nearest_rules_of_pillow_and_torch():
    axis = Axis.whole(7).resize(4)
    assert axis.pixels.tolist() == [0, 2, 4, 6]
    assert axis.labels.tolist() == [0, 1, 3, 5]
    ids = np.random.default_rng(0).integers(0, 255, (37, 53), dtype=np.uint8)
    resized = np.asarray(Image.fromarray(ids).resize((41, 29), Image.Resampling.NEAREST))
    example = Example.whole(np.zeros((37, 53, 3), np.uint8)).resize(29, 41)
    assert np.array_equal(example.read(ids, 0), resized)
    rule = torch.nn.functional.interpolate(torch.from_numpy(ids)[None, None].double(), (29, 41))
    assert np.array_equal(example.read(ids, 0, labels=True), rule[0, 0].numpy().astype(np.uint8))


def test_shortest_edge_rounds_half_up():
    assert shortest_edge(480, 640, edge=800, longest=1333) == (800, 1067)
    assert shortest_edge(1080, 1920, edge=800, longest=1333) == (750, 1333)
    assert shortest_edge(3000, 4000, edge=800, longest=1333) == (800, 1067)


def test_sizes_never_vanish_and_0_keeps_them():
    assert shortest_edge(1, 4000, edge=800, longest=1333) == (1, 1333)
    assert shortest_edge(4000, 1, edge=800, longest=1333) == (1333, 1)
    assert shortest_edge(30, 40, edge=0, longest=20) == (30, 40)
    line = Example.whole(np.zeros((1, 4000, 3), np.uint8))
    resized = ResizeShortestEdge((640,), 1333)(line, np.random.default_rng(0))
    assert resized.image.shape == (1, 1333, 3)
    assert ResizeShortestEdge((0,), 9)(line, np.random.default_rng(0)).image.shape == (1, 4000, 3)


def test_fixed_size_crop_slides_on_the_diagonal():
    example = Example.whole(np.zeros((200, 300, 3), np.uint8))
    rng = np.random.default_rng(3)
    u = np.random.default_rng(3).random()
    cropped = FixedSizeCrop((100, 120))(example, rng)
    assert cropped.image.shape == (100, 120, 3)
    assert cropped.y.pixels[0] == round(100 * u)
    assert cropped.x.pixels[0] == round(180 * u)
    padded = FixedSizeCrop((256, 256))(Example.whole(np.zeros((20, 300, 3), np.uint8)), rng)
    assert padded.image[30, 0].tolist() == [128, 128, 128]
    assert padded.y.pixels[25] == -1
