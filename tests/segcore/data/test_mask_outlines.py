"""Outlines of masks, from which the same masks come back."""

import numpy as np
import pytest

from segcore import masks
from segcore.data.outlines import one_ring, outlines

SQUARE = np.ones((2, 3), bool)
DIAGONAL = np.eye(2, dtype=bool)


def random_masks(count):
    """Noise, coarse noise, and what touches every edge."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mask = rng.random(rng.integers(1, 24, 2)) < rng.random()
        yield np.kron(mask, np.ones((1 + i % 3, 1 + i % 2), bool)) if i % 2 else mask


def test_one_ring_equals_its_mask():
    for mask in random_masks(120):
        ring = one_ring(masks.encode(mask[None])[0])
        if not mask.any():
            assert ring == ()
            continue
        np.testing.assert_array_equal(masks.rasterise([[ring]], mask.shape)[0], mask)


@pytest.mark.parametrize(
    ("mask", "outer", "holes"),
    [
        (SQUARE, [[[0, 0], [3, 0], [3, 2], [0, 2]]], []),
        (np.pad(DIAGONAL, 1), [8], []),  # pixels that touch with a corner are one part
        (np.pad(~DIAGONAL, 1), [8], []),
        (np.pad(DIAGONAL, ((0, 0), (3, 0)))[:, [3, 0, 4]], [4, 4], []),
        (np.pad(np.zeros((1, 1), bool), 1, constant_values=True), [4], [4]),
        (np.pad(DIAGONAL, 1, constant_values=True), [4], [4, 4]),
        (np.zeros((3, 3), bool), [], []),
    ],
)
def test_rings_are_outer_ones_and_holes(mask, outer, holes):
    rings = outlines(masks.encode(mask[None])[0])
    for found, expected in zip(rings, (outer, holes), strict=True):
        if expected and isinstance(expected[0], list):
            assert [ring.tolist() for ring in found] == expected
        else:
            assert [len(ring) for ring in found] == expected
