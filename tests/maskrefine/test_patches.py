"""Where patches lie and how they are put together, against the published programs."""

import numpy as np
import pytest
import torch
from formulas import PHI, bits, golden_file

from maskrefine.hrnet import resize
from maskrefine.patches import PatchedMask, boundary_boxes, boundary_strength

NAMES, THRESHOLDS = ("disc", "star", "rect"), ("0.15", "0.25", "0.55")
H, W = 200, 260


@pytest.fixture(scope="module")
def arrays(golden):
    return golden_file(golden / "refiners", "bpr_patches")[1]


@pytest.fixture(scope="module")
def masks(arrays):
    return bits(arrays["masks_bits"], H, W)


def patched(mask, threshold):
    return PatchedMask.of(mask, iou_threshold=float(threshold), size=64)


def whole(mask):
    page = np.zeros((H, W), bool)
    (y, x), (h, w) = mask.corner, mask.pixels.shape
    page[y : y + h, x : x + w] = mask.stitched()
    return page


def test_strength_equals_the_published_one(arrays, masks):
    found = np.stack([boundary_strength(mask) for mask in masks])
    np.testing.assert_array_equal(found, arrays["strength"])


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_boxes_equal_in_their_order(arrays, masks, threshold):
    for name, mask in zip(NAMES, masks, strict=True):
        wanted = arrays[f"boxes_{threshold}_{name}"]
        found = boundary_boxes(mask, iou_threshold=float(threshold))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(patched(mask, threshold).boxes, wanted)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_strongest_candidates_come_first(arrays, masks, threshold):
    for name, mask in zip(NAMES, masks, strict=True):
        inner = arrays[f"boxes_{threshold}_{name}"]
        inner = (
            (inner[:, 0] > 0) & (inner[:, 1] > 0) & (inner[:, 2] < W - 1) & (inner[:, 3] < H - 1)
        )
        boxes = boundary_boxes(mask, iou_threshold=float(threshold))[inner]
        strength = boundary_strength(mask)[boxes[:, 1] + 32, boxes[:, 0] + 32]
        wanted = arrays[f"strength9_{threshold}_{name}"][inner]
        np.testing.assert_array_equal(strength, wanted)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("kind", ["merged_formula", "merged_formula128_demo"])
def test_merged_patches_equal(arrays, masks, threshold, kind):
    wanted = bits(arrays[f"{kind}_{threshold}_bits"], H, W)
    side = 128 if "128" in kind else 64
    y, x = np.mgrid[:side, :side] * (64 / side)
    for mask, goal in zip(masks, wanted, strict=True):
        cut = patched(mask, threshold)
        for k in range(len(cut.boxes)):
            wave = 0.5 + 0.5 * np.sin(0.13 * y + 0.17 * x + 0.9 * k + PHI)
            patch = torch.from_numpy(wave.astype(np.float32))[None, None]
            cut.add(k, resize(patch, 64)[0, 0].numpy())
        np.testing.assert_array_equal(whole(cut), goal)


def test_patches_are_the_mask_in_its_boxes(masks):
    for mask in masks:
        cut = patched(mask, 0.25)
        wanted = [mask[y0:y1, x0:x1] for x0, y0, x1, y1 in cut.boxes]
        np.testing.assert_array_equal(cut.patches(), wanted)


def test_exactly_one_half_is_outside():
    mask = np.zeros((100, 100), bool)
    mask[20:60, 20:60] = True
    cut = PatchedMask.of(mask, iou_threshold=0.25, size=64)
    for k in range(len(cut.boxes)):
        cut.add(k, np.full((64, 64), 0.5, np.float32))
    assert not cut.stitched().any()


def test_without_patches_a_mask_stays():
    mask = np.zeros((100, 100), bool)
    assert PatchedMask.of(mask, iou_threshold=0.25, size=64).boxes.shape == (0, 4)
    mask[10:50, 10:50] = True
    small = PatchedMask.of(mask[:64], iou_threshold=0.25, size=64)
    assert len(small.boxes) == 0
    np.testing.assert_array_equal(small.stitched(), small.pixels)


@pytest.mark.parametrize("shape", [(65, 65), (65, 300), (300, 66)])
def test_windows_lie_inside_an_image_that_hardly_holds_them(shape):
    mask = np.ones(shape, bool)
    boxes = boundary_boxes(mask, iou_threshold=0.55)
    assert len(boxes)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] < shape[::-1]).all()  # the published rule leaves the last pixel out
    assert (boxes[:, 2:] - boxes[:, :2] == 64).all()


def test_windows_of_a_part_equal_those_of_the_whole():
    rng = np.random.default_rng(0)
    mask = np.zeros((300, 280), bool)
    mask[90:210, 150:230] = rng.random((120, 80)) > 0.4
    part = boundary_boxes(
        mask[80:220, 140:240], iou_threshold=0.3, corner=(80, 140), image=(300, 280)
    )
    np.testing.assert_array_equal(part, boundary_boxes(mask, iou_threshold=0.3))
