"""Losses, gradients and targets equal the published programs' (recorded numbers)."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from golden_hosts import (
    HOSTS,
    STYLE,
    batch,
    batch_of,
    facts,
    model_of,
    targets_of,
)

from maskrefine.losses import DetectorLosses
from maskrefine.mask_head import mask_losses
from maskrefine.numerics import NUMERICS
from maskrefine.targets import polygons_inside, true_boxes
from maskrefine.weights import to_official

pytestmark = [pytest.mark.usefixtures("golden"), pytest.mark.slow]
each_host = pytest.mark.parametrize("host", HOSTS)
RENAMED = {"loss_rpn_loc": "loss_rpn_bbox", "loss_box_reg": "loss_bbox"}  # mmdetection's names
CANVAS = (224, 256)


def no_masks(regions, targets):
    return {}


def losses_of(host, **options):
    numerics = NUMERICS[STYLE[host]]
    masks = no_masks
    if STYLE[host] == "detectron2":
        masks = partial(mask_losses, least_side=numerics.least_side)
    return DetectorLosses(numerics=numerics, mask_losses=masks, anchors_per_image=65536, **options)


@cache
def trained(host):
    """(model with gradients, outputs, losses) of A and B in one batch."""
    model = model_of(host)
    images, sizes = batch(host, ("A", "B"))
    targets = [targets_of(host, name, *CANVAS) for name in "AB"]
    outputs = model(images, sizes, targets)
    losses = losses_of(host)(outputs, targets)
    sum(losses.values()).backward()
    return model, outputs, losses


@each_host
def test_losses_equal_the_published(host):
    wanted = facts(host)[0]["losses"]
    losses = trained(host)[2]
    for name, value in losses.items():
        known = wanted[name if name in wanted else RENAMED[name]]
        assert value.item() == pytest.approx(known, rel=1e-4), name
    assert len(losses) == (5 if STYLE[host] == "detectron2" else 4)


@each_host
def test_gradients_equal_the_published(host):
    settings = facts(host)[0]
    model = trained(host)[0]
    parameters = to_official(dict(model.named_parameters()), STYLE[host])
    for name, wanted in settings["grads"].items():
        found = parameters[name].grad.abs().double().sum().item()
        # offsets' gradients jump where a sample crosses a cell, and cancel in the bias's sum
        assert found == pytest.approx(wanted, rel=1e-3 if "offset" in name else 1e-4), name
    frozen = [name for name, p in parameters.items() if not p.requires_grad]
    assert len(frozen) == settings["n_frozen_parameters"]
    assert all(name in frozen for name in settings.get("no_grad", ()))
    assert all(p.grad is not None for p in parameters.values() if p.requires_grad)


@each_host
def test_drawn_anchors_and_regions_equal_the_published(host):
    settings, arrays = facts(host)
    wanted = settings["train"]
    said = trained(host)[1].proposals
    for i, name in enumerate("AB"):
        labels = losses_of(host)._match(said, i)[1]
        positive, negative = (int((labels == k).sum()) for k in (1, 0))
        rest = "anchors_pos_neg_ignored" if "anchors_pos_neg_ignored" in wanted else None
        if rest:
            counts = [positive, negative, int((labels == -1).sum())]
        else:
            rest, counts = "anchors_pos_neg_valid", [positive, negative, int(said.usable[i].sum())]
        assert counts == wanted[rest][i]
        mine = said.regions.sample == i
        foreground = mine & (said.regions.labels < 80)
        total, front = int(mine.sum()), int(foreground.sum())
        if "rois_total_and_fg" in wanted:
            assert [total, front] == wanted["rois_total_and_fg"][i]
        else:
            assert [front, total - front] == wanted["rois_pos_neg"][i]
        boxes = said.regions.boxes[foreground].numpy()
        boxes = boxes[np.lexsort(boxes.T[::-1])]
        np.testing.assert_allclose(boxes, arrays[f"{name}_train_fg_boxes"], atol=1e-2)


@pytest.mark.parametrize("host", ["d2_r50"])
def test_mask_targets_equal_the_published(host):
    bits = []
    for name in "AB":
        targets = targets_of(host, name, *CANVAS)
        boxes = true_boxes(targets).numpy()
        bits.append(polygons_inside(targets.polygons, boxes, 28, least_side=0.1))
    packed = np.packbits(np.concatenate(bits).reshape(5, -1), axis=1)
    assert (packed == facts(host)[1]["train_gt_mask28_bits"]).all()


def test_padded_images_equal_the_published():
    """mmdetection: anchors in the batch's padding are not trained; empty proposals stay."""
    host = "mm_r50"
    wanted = facts(host)[0]["variant_padded"]
    images, sizes = batch_of(host, wanted["sizes"], wanted["phis"])
    targets = [targets_of(host, name, *CANVAS) for name in "AB"]
    model = model_of(host)
    with torch.no_grad():
        said = model(images, sizes, targets).proposals
        losses = losses_of(host).of_anchors(said)
        proposed = model.rpn.choose(
            model.rpn(model.pyramid(images, sizes)), sizes[:, 0].float(), training=False
        )
    for name, value in losses.items():
        known = wanted["losses"][RENAMED.get(name, name)]
        assert value.item() == pytest.approx(known, rel=1e-4), name
    for i, (found, kept) in enumerate(zip(proposed, wanted["keep_zero_area"], strict=True)):
        labels = losses_of(host)._match(said, i)[1]
        counts = [int((labels == 1).sum()), int((labels == 0).sum()), int(said.usable[i].sum())]
        assert counts == wanted["anchors_pos_neg_valid"][i]
        empty = (found.boxes[:, 2:] <= found.boxes[:, :2]).any(1)
        assert [len(empty), int(empty.sum())] == [kept["n"], kept["n_zero_area"]]
        assert found.scores.double().sum().item() == pytest.approx(kept["score_sum"], rel=1e-4)
