"""Masks of boxes become masks of images."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskrefine.paste import paste
from segcore import masks as mask_io
from segcore.nn.mask_rles import has_compiled


def sampled(mask, box, H, W):
    """The published rule: one bilinear sample at every pixel's centre, zeros around the mask."""
    x0, y0, x1, y1 = box
    x = (torch.arange(W) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(H) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]


@pytest.mark.parametrize("together", [None, 4])
def test_pasted_masks_equal_grid_sampling(together):
    torch.manual_seed(0)
    H, W = 60, 90
    boxes = torch.tensor([
        [10.3, 5.2, 70.8, 50.1], [0.0, 0.0, 90.0, 60.0], [-20.0, -30.0, 40.0, 200.0],
        [88.5, 58.2, 90.0, 60.0], [30.1, 30.2, 30.9, 31.5], [5.5, 5.5, 12.5, 12.5],
    ])  # fmt: skip
    masks = F.interpolate(torch.rand(len(boxes), 1, 5, 5), 28, mode="bilinear")[:, 0]
    masks[1] = 1
    pasted = paste(masks, boxes, (H, W), together=together)
    for rle, mask, box in zip(pasted, masks, boxes, strict=True):
        wanted = sampled(mask, box, H, W)
        sure = (wanted - 0.5).abs() > 1e-6
        assert rle["size"] == [H, W]
        assert (mask_io.decode(rle) == (wanted >= 0.5).numpy())[sure.numpy()].all()


@pytest.mark.skipif(not has_compiled(torch.zeros(0)), reason="ops/ is not built, or older")
@pytest.mark.parametrize("cells", [(28, 28), (7, 5), (1, 1), (112, 112)])
def test_the_compiled_pass_equals_pasting_in_torch(cells):
    torch.manual_seed(0)
    H, W = 97, 130
    low = torch.rand(150, 2) * torch.tensor([W, H]) - 10
    boxes = torch.cat((low, low + torch.rand(150, 2) * 90), 1)
    boxes[::5] = boxes[::5].round()
    masks = torch.rand(150, *cells)
    masks[::7] = masks[::7].round()
    assert paste(masks, boxes, (H, W)) == paste(masks, boxes, (H, W), together=1)
    high = paste(masks, boxes, (H, W), threshold=0.7)
    assert high == paste(masks, boxes, (H, W), threshold=0.7, together=1)


def test_a_full_mask_fills_its_box_and_none_gives_none():
    full = paste(torch.ones(1, 112, 112), torch.tensor([[10.0, 20.0, 30.0, 25.0]]), (40, 50))
    wanted = np.zeros((40, 50), bool)
    wanted[20:25, 10:30] = True
    assert (mask_io.decode(full[0]) == wanted).all()
    assert paste(torch.ones(0, 28, 28), torch.zeros(0, 4), (40, 50)) == []


@pytest.mark.parametrize("together", [None, 3])
def test_boxes_without_area_or_outside_have_no_pixel(together):
    boxes = torch.tensor([[10.0, 10.0, 10.0, 20.0], [10.5, 5.5, 10.5, 5.5], [60.0, 5.0, 80.0, 9.0]])
    rles = paste(torch.ones(3, 28, 28), boxes, (40, 50), together=together)
    assert mask_io.area(rles).tolist() == [0, 0, 0]
