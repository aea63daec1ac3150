"""Rotation of images, masks and outlines: one movement."""

import numpy as np
import pytest
from PIL import Image

from segcore import masks
from segcore.data.frame_transforms import RandomRotation
from segcore.data.transforms import Example
from segcore.data.turn import Turn

QUARTER = Turn(angle=90, x=20, y=20)


def test_a_quarter_is_a_quarter_counter_clockwise():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert abs(QUARTER.image(image) - np.rot90(image).astype(int)).max() <= 1
    assert np.array_equal(QUARTER.nearest(image[..., 0], 0), np.rot90(image[..., 0]))
    assert QUARTER.points(np.array([[40.0, 20.0]])) == pytest.approx(np.array([[20.0, 0.0]]))


def test_what_comes_from_outside_is_empty():
    turn = Turn(angle=12, x=30, y=14)
    ids = np.full((30, 60), 7)
    turned = turn.nearest(ids, -1)
    assert (turned == -1).any() and set(np.unique(turned)) == {-1, 7}
    black = turn.image(np.full((30, 60, 3), 200, np.uint8)).max(2) == 0
    assert (black & (turned == 7)).mean() < 0.05


def test_outlines_and_masks_go_the_same_way():
    turn = Turn(angle=-13, x=50, y=30)
    ring = np.array([[20.0, 10], [80, 20], [60, 50]])
    mask = masks.rasterise([[ring.ravel()]], (64, 100))[0]
    moved = masks.rasterise([[turn.points(ring).ravel()]], (64, 100))[0]
    turned = turn.nearest(mask, 0)
    assert (turned & moved).sum() / (turned | moved).sum() > 0.95
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, 2)
    assert ((turn.image(picture)[..., 0] > 127) == turned).mean() > 0.98


def test_pixels_equal_those_of_the_published_formula():
    """Each is a mean of the four around its place in the first image."""
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    turn = Turn(angle=8, x=15.2, y=11.9)
    turned, angle = turn.image(image), np.deg2rad(8)
    for y, x in ((5, 9), (12, 20), (17, 15)):
        dx, dy = x + 0.5 - turn.x, y + 0.5 - turn.y
        u = np.cos(angle) * dx - np.sin(angle) * dy + turn.x - 0.5
        v = np.sin(angle) * dx + np.cos(angle) * dy + turn.y - 0.5
        j, i = int(np.floor(u)), int(np.floor(v))
        a, b = u - j, v - i
        four = image[i : i + 2, j : j + 2].astype(float)
        goal = (1 - b) * ((1 - a) * four[0, 0] + a * four[0, 1])
        goal += b * ((1 - a) * four[1, 0] + a * four[1, 1])
        assert np.abs(turned[y, x] - goal).max() <= 1


def test_draws_are_the_published_ones():
    image = np.asarray(Image.new("RGB", (50, 40), (9, 9, 9)))
    example = RandomRotation()(Example.whole(image), np.random.default_rng(4))
    rng = np.random.default_rng(4)
    angle, x, y = rng.uniform(-15, 15), rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6)
    assert example.turn == Turn(angle=angle, x=50 * x, y=40 * y)
