"""The 8-bit resize equals OpenCV's to the last bit (recorded with OpenCV 5.0)."""

import numpy as np
import pytest
import torch

from maskrefine.opencv_resize import resize_image, resize_uint8

SMALL = [
    [0, 23, 68, 114, 159, 141, 58, 17], [9, 33, 80, 127, 174, 157, 76, 36],
    [28, 53, 103, 154, 204, 190, 113, 74], [65, 76, 97, 135, 188, 194, 152, 131],
    [120, 101, 62, 70, 127, 168, 193, 206], [130, 112, 76, 72, 101, 145, 205, 235],
    [95, 110, 142, 141, 108, 124, 187, 219], [77, 109, 174, 175, 112, 113, 178, 211],
]  # fmt: skip


def pixels(side):
    y, x = np.mgrid[:side, :side]
    return torch.from_numpy(((37 * y * y + 91 * x + 13 * x * y) % 256).astype(np.uint8))


def test_every_pixel_equals_opencv():
    both = torch.stack((pixels(4), pixels(4).T))[None]  # channels are resized alike
    assert resize_uint8(both, 8)[0, 0].tolist() == SMALL


@pytest.mark.parametrize(
    ("side", "new", "total", "weighted"),
    [
        (64, 128, 2109439, 537806208),
        (64, 256, 8434805, 4309428478),
        (37, 128, 2142071, 548955026),
        (100, 128, 2101309, 535328805),
    ],
)
def test_sums_equal_opencv(side, new, total, weighted):
    resized = resize_uint8(pixels(side)[None, None], new)[0, 0].long()
    y, x = np.mgrid[:new, :new]
    assert resized.sum() == total
    assert (resized * torch.from_numpy(x + 3 * y + 1)).sum() == weighted


@pytest.mark.parametrize(
    ("height", "width", "total", "weighted"),
    [
        (80, 107, 3281422, 588321394),
        (24, 32, 294016, 17029952),  # half as large, in another way
        (31, 45, 535443, 40140513),
    ],
)
def test_sums_of_images_equal_opencv(height, width, total, weighted):
    y, x, c = np.mgrid[:48, :64, :3]
    image = ((37 * y * y + 91 * x + 13 * x * y + c * 50) % 256).astype(np.uint8)
    resized = resize_image(image, height, width).astype(np.int64)
    assert resized.shape == (height, width, 3)
    y, x, c = np.mgrid[:height, :width, :3]
    assert resized.sum() == total
    assert (resized * (x + 3 * y + 7 * c + 1)).sum() == weighted


def test_same_size_is_left_alone():
    assert torch.equal(resize_uint8(pixels(9)[None, None], 9)[0, 0], pixels(9))
