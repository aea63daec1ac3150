"""Boundary patch refinement from end to end, against both published programs."""

import numpy as np
import pytest
import torch
from formulas import PHI, bits, golden_file, key_shapes, picture, weights
from scenes import quick_network

from maskrefine.bpr import PatchRefiner
from maskrefine.hrnet import VARIANTS, PatchNetwork
from maskrefine.patch_numerics import PATCH_NUMERICS, network_input
from maskrefine.patches import boundary_boxes
from segcore.errors import ConfigError, DataError
from segcore.masks import decode, encode

H, W = 200, 260


@pytest.fixture(scope="module")
def recorded(golden):
    return golden_file(golden / "refiners", "bpr_patches")


@pytest.fixture(scope="module")
def masks(recorded):
    return bits(recorded[1]["masks_bits"], H, W)


@pytest.fixture(scope="module")
def network(golden, recorded):
    network = PatchNetwork(VARIANTS["hrnet18s"])
    network.load_official(weights(key_shapes(golden / "refiners", "bpr_hrnet18s")))
    with torch.no_grad():
        network.decode_head.conv_seg.bias[0] += recorded[0]["e2e_added_to_conv_seg_bias0"]
    return network


@pytest.fixture(scope="module")
def small():
    return quick_network()


@pytest.fixture(scope="module")
def image():
    return picture(H, W, PHI).transpose(1, 2, 0).astype(np.uint8)


class Recording(PatchRefiner):
    """Keeps what the network is given and what comes of it."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.probabilities = []

    def _probabilities(self, *args):
        found = super()._probabilities(*args)
        self.probabilities.extend(found)
        return found


@pytest.mark.parametrize(
    ("numerics", "key", "tolerance", "pixels"),
    # another OpenCV may round grey levels in another way, so the record allows 2e-3 for "batch"
    [("demo", "e2e_demo_prob64", 1e-4, 0), ("batch", "e2e_batch_prob64", 1e-4, 0)],
)
def test_masks_and_probabilities_equal(
    recorded, network, image, masks, numerics, key, tolerance, pixels
):
    arrays, refiner = recorded[1], Recording(network)
    refined = refiner(image, masks, 0.25, numerics)
    np.testing.assert_allclose(
        np.stack(refiner.probabilities[::3]), arrays[key], rtol=0, atol=tolerance
    )
    wanted = bits(arrays[f"e2e_{numerics}_mask_bits"], H, W)
    assert (refined != wanted).sum() <= pixels
    assert (refined != masks).sum() > 1000


def test_network_is_given_the_published_pixels(recorded, image, masks):
    arrays = recorded[1]
    boxes = [boundary_boxes(m, iou_threshold=0.25) for m in masks]
    cut = [
        (image[y0:y1, x0:x1], mask[y0:y1, x0:x1])
        for mask, found in zip(masks, boxes, strict=True)
        for x0, y0, x1, y1 in found
    ]
    colors = torch.from_numpy(np.stack([c for c, _ in cut])).permute(0, 3, 1, 2)
    coarse = torch.from_numpy(np.stack([m for _, m in cut]))
    files = PATCH_NUMERICS["batch"].resize_image(colors, 128)
    sums = files.double().abs().sum((1, 2, 3)).numpy()
    np.testing.assert_allclose(sums, arrays["e2e_batch_input_img_abssum"], rtol=1e-6)
    ones = (network_input(files, coarse)[:, 3] > 0).sum((1, 2)).numpy()
    np.testing.assert_array_equal(ones, arrays["e2e_batch_input_mask_sum"])
    demo = network_input(PATCH_NUMERICS["demo"].resize_image(colors, 128), coarse)
    sums = demo.double().abs().sum((2, 3)).numpy()
    np.testing.assert_allclose(sums, arrays["demo_patch_abssum"], rtol=1e-6)
    sample = arrays["demo_patch_sample"]
    np.testing.assert_allclose(demo[:, :, ::17, ::17].numpy(), sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize("numerics", PATCH_NUMERICS)
def test_rles_equal_masks(small, image, masks, numerics):
    refiner = PatchRefiner(small, batch_size=5)  # batches end in the middle of a mask
    refined = refiner(image, masks, 0.55, numerics)
    rles = refiner.refine_rles(image, encode(masks), 0.55, numerics)
    np.testing.assert_array_equal(np.stack([decode(rle) for rle in rles]), refined)


def test_images_share_batches(small, image, masks):
    refiner, empty = Recording(small, batch_size=7), np.zeros((1, H, W), bool)
    other = np.ascontiguousarray(image[::-1, :230])
    pairs = [
        (image, encode(masks)),
        (other, []),
        (other, encode(masks[:2, :, :230])),
        (image, encode(empty)),
        (image[:60], encode(masks[:, :60])),
    ]
    together = list(refiner.refine_images(pairs))
    assert together == [PatchRefiner(small).refine_rles(*pair) for pair in pairs]
    assert len(refiner.probabilities) > 30


def test_masks_under_the_least_area_stay_and_the_others_are_refined_as_before(small, image, masks):
    few = np.zeros((1, H, W), bool)
    few[0, 10:14, 20:25] = True
    given = np.concatenate((few, masks))
    picky = PatchRefiner(small, least_area=21)
    exact = PatchRefiner(small, least_area=20)
    assert (picky(image, given)[0] == few).all() and (exact(image, given)[0] != few).any()
    assert (picky(image, given)[1:] == exact(image, given)[1:]).all()
    (rles,) = picky.refine_images([(image, encode(given))])
    assert rles[0] == encode(few)[0]


def test_empty_masks_stay_and_change_no_other(small, image, masks):
    refiner = PatchRefiner(small)
    mixed = np.stack([np.zeros((H, W), bool), masks[0], np.zeros((H, W), bool), masks[2]])
    refined = refiner(image, mixed)
    assert not refined[[0, 2]].any()
    np.testing.assert_array_equal(refined[[1, 3]], refiner(image, masks)[[0, 2]])
    rles = encode(mixed)
    assert refiner.refine_rles(image, rles)[0] == rles[0]


def test_an_image_no_larger_than_a_patch_keeps_its_masks(small, image, masks):
    refiner = PatchRefiner(small)
    small = masks[:, :64, 60:160].copy()
    np.testing.assert_array_equal(refiner(image[:64, 60:160], small), small)
    assert refiner.refine_rles(image[:64, 60:160], encode(small)) == encode(small)


def test_no_mask_is_no_work(small, image):
    refiner = PatchRefiner(small)
    assert refiner(image, np.zeros((0, H, W), bool)).shape == (0, H, W)
    assert refiner.refine_rles(image, []) == []


def test_one_window_is_enough_for_a_small_mask(small, image):
    mask = np.zeros((1, H, W), bool)
    mask[0, 100:104, 120:125] = True
    assert len(boundary_boxes(mask[0], iou_threshold=0.25)) == 1
    refined = PatchRefiner(small)(image, mask)
    assert (refined != mask).any()


def test_far_from_the_boundary_nothing_changes(small, image):
    mask = np.ones((1, H, W), bool)
    y, x = np.nonzero(~PatchRefiner(small)(image, mask)[0])
    assert len(y)
    assert (np.minimum.reduce([y, x, H - 1 - y, W - 1 - x]) <= 65).all()


def test_bf16_is_near_float32(small, image, masks):
    full = PatchRefiner(small)(image, masks)
    half = PatchRefiner(small, precision=torch.bfloat16)(image, masks)
    assert half.dtype == bool
    assert (full != half).sum() < 0.02 * full.sum()


def test_the_input_is_left_alone(small, image, masks):
    before, pixels = masks.copy(), image.copy()
    PatchRefiner(small)(image, masks)
    np.testing.assert_array_equal(masks, before)
    np.testing.assert_array_equal(image, pixels)


def test_masks_of_another_size_raise(small, image, masks):
    refiner = PatchRefiner(small)
    with pytest.raises(DataError, match=r"masks are \(200, 250\), the image is \(200, 260\)"):
        refiner(image, masks[:, :, :250])
    with pytest.raises(DataError, match=r"mask 1 has size \(200, 250\).*of this image"):
        refiner.refine_rles(image, [*encode(masks[:1]), *encode(masks[:1, :, :250])])
    with pytest.raises(ConfigError, match="expected one of batch, demo"):
        refiner(image, masks, 0.25, "exact")
