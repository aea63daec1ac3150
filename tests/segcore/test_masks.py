"""Masks as RLEs compared with each other."""

import numpy as np

from segcore.masks import area, encode, iou


def test_every_mask_is_compared_with_every_other():
    rng = np.random.default_rng(0)
    masks, others = rng.random((3, 20, 30)) > 0.4, rng.random((2, 20, 30)) > 0.7
    masks[1] = others[1] = False
    both = (masks[:, None] & others).sum((2, 3))
    either = (masks[:, None] | others).sum((2, 3))
    np.testing.assert_allclose(iou(encode(masks), encode(others)), both / np.maximum(either, 1))
    assert iou([], encode(others)).shape == (0, 2)
    assert iou(encode(masks), []).shape == (3, 0)


def test_areas_of_more_masks_than_a_byte_counts():
    masks = np.arange(600)[:, None, None] > np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(area(encode(masks)), masks.sum((1, 2)))
    assert area([]).shape == (0,)
