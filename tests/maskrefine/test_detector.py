"""A small detector at its edges: nothing found, nothing to find, half precision."""

from functools import partial
from pathlib import Path

import pytest
import torch

from maskrefine.box_head import BoxHead
from maskrefine.detector import TwoStage
from maskrefine.fpn import FPN
from maskrefine.losses import DetectorLosses
from maskrefine.mask_head import PlainMaskHead, mask_losses
from maskrefine.numerics import NUMERICS
from maskrefine.postprocess import DetectionResults
from maskrefine.proposals import RegionProposals
from maskrefine.refinemask import RefineMaskHead
from maskrefine.refinemask_losses import refinemask_losses
from maskrefine.resnet import ResNet
from maskrefine.transfiner import TransfinerHead
from maskrefine.transfiner_losses import transfiner_losses
from segcore import masks as mask_io
from segcore.nn.swin import Swin
from segcore.structures import Batch, Frame, Polygons, Record, Sample, Targets

K, C = 3, 32  # classes, channels
each_style = pytest.mark.parametrize("style", NUMERICS)


class Pyramid(torch.nn.Module):
    """The smallest backbone: one convolution a level."""

    strides, channels = (4, 8, 16, 32), (8, 8, 8, 8)

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(3, 8, s, s) for s in self.strides)

    def forward(self, images):
        return [conv(images) for conv in self.convs]


def detector(style="detectron2", backbone=None, **options):
    torch.manual_seed(0)
    numerics = NUMERICS[style]
    backbone = backbone or Pyramid()
    model = TwoStage(
        backbone=backbone,
        neck=FPN(backbone.channels, C, fill=numerics.fill),
        rpn=RegionProposals(C, numerics=numerics, train=(200, 100), test=(100, 50)),
        box_head=BoxHead(C, num_classes=K, numerics=numerics, hidden=32, **options),
        mask_head=PlainMaskHead(C, num_classes=K, numerics=numerics),
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(58.395, 57.12, 57.375),
    )
    losses = DetectorLosses(
        numerics=numerics, mask_losses=partial(mask_losses, least_side=numerics.least_side)
    )
    return model, losses


def batch_of(sizes, output=(120, 150)):
    torch.manual_seed(1)
    samples = [
        Sample(
            torch.randint(0, 256, (1, 3, h, w), dtype=torch.uint8),
            torch.tensor([[h, w]]),
            torch.tensor([[0, 0, output[1], output[0]]]),
            None,
            Record(i, output, (Frame(Path("none")),)),
        )
        for i, (h, w) in enumerate(sizes)
    ]
    return Batch.collate(samples)


def square(x, y, side, H=96, W=128, polygon=False):
    masks = torch.zeros(1, 1, H, W, dtype=torch.bool)
    masks[..., y : y + side, x : x + side] = True
    ring = (x, y, x + side, y, x + side, y + side, x, y + side)
    shapes = [Polygons((tuple(map(float, ring)),))] if polygon else None
    present = torch.ones(1, 1, dtype=torch.bool)
    return Targets(torch.tensor([1]), masks, present, shapes)


def nothing(H=96, W=128):
    none = torch.zeros(0, 1, dtype=torch.bool)
    return Targets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, H, W) > 0, none)


@each_style
@pytest.mark.parametrize("polygon", [False, True])
def test_every_parameter_learns_though_one_image_is_empty(style, polygon):
    model, losses = detector(style)
    batch = batch_of([(96, 128), (90, 100)])
    targets = [nothing(), square(20, 30, 40, polygon=polygon)]
    outputs = model(batch.images, batch.sizes, targets)
    found = losses(outputs, targets)
    sum(found.values()).backward()
    assert set(found) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert all(value.isfinite() and value > 0 for value in found.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (outputs.regions.sample == 1).all() and (outputs.regions.labels == 1).all()


@each_style
def test_a_batch_without_any_object_has_finite_losses_and_all_gradients(style):
    model, losses = detector(style)
    batch = batch_of([(96, 128), (90, 100)])
    targets = [nothing(), nothing()]
    found = losses(model(batch.images, batch.sizes, targets), targets)
    sum(found.values()).backward()
    assert found["loss_mask"] == 0 and found["loss_box_reg"] == 0 and found["loss_rpn_loc"] == 0
    assert found["loss_cls"] > 0 and found["loss_rpn_cls"] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@each_style
def test_nothing_above_the_threshold_gives_empty_results(style):
    model, _ = detector(style, score_threshold=0.9999)
    batch = batch_of([(96, 128), (90, 100)])
    with torch.no_grad():
        results = DetectionResults()(model(batch.images, batch.sizes), batch)
    assert [len(r.instances.masks) for r in results] == [0, 0]
    assert results[0].instances.boxes.shape == (0, 4)


@each_style
def test_images_of_a_batch_are_found_as_they_are_alone(style):
    model, _ = detector(style, score_threshold=0.2)
    both = batch_of([(96, 128), (96, 128)])
    with torch.no_grad():
        together = DetectionResults()(model(both.images, both.sizes), both)
        for i, result in enumerate(together):
            alone = model(both.images[i : i + 1], both.sizes[i : i + 1]).regions
            found = result.instances
            assert len(found.scores) > 0
            torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
            assert found.labels.tolist() == alone.labels.tolist()


def test_results_are_at_the_records_size_with_the_detectors_boxes():
    model, _ = detector(score_threshold=0.2)
    batch = batch_of([(96, 128), (90, 100)], output=(180, 300))
    with torch.no_grad():
        outputs = model(batch.images, batch.sizes)
    results = DetectionResults()(outputs, batch)
    for i, result in enumerate(results):
        found, (h, w) = result.instances, batch.sizes[i, 0].tolist()
        assert all(rle["size"] == [180, 300] for rle in found.masks)
        scale = torch.tensor([300 / w, 180 / h] * 2)
        torch.testing.assert_close(
            found.boxes, outputs.regions.boxes[outputs.regions.sample == i] * scale
        )
        tight = torch.from_numpy(mask_io.boxes(found.masks)).float()
        full = tight[:, 2] > tight[:, 0]
        assert full.any()
        assert (tight[full, :2] >= found.boxes[full, :2] - 0.5).all()
        assert (tight[full, 2:] <= found.boxes[full, 2:] + 0.5).all()


def test_half_precision_finds_what_float32_does():
    model, losses = detector(score_threshold=0.2)
    batch = batch_of([(96, 128), (90, 100)])
    targets = [square(10, 10, 60), square(20, 30, 40)]
    with torch.no_grad():
        whole = model(batch.images, batch.sizes)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            half = model(batch.images, batch.sizes)
        found = losses(model(batch.images, batch.sizes, targets), targets)
    sum(found.values()).backward()
    assert half.regions.boxes.dtype == half.regions.probabilities.dtype == torch.float32
    assert abs(len(half.regions.scores) - len(whole.regions.scores)) <= 10
    torch.testing.assert_close(
        half.regions.scores[:5], whole.regions.scores[:5], rtol=0.02, atol=0.02
    )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


REFINERS = {
    "transfiner": ("detectron2", lambda: TransfinerHead(num_classes=K, dim=C), transfiner_losses),
    "refinemask": ("mmdet", lambda: RefineMaskHead(num_classes=K, dim=C), refinemask_losses),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFINERS)
def test_a_refiner_takes_the_mask_heads_place(name):
    style, make, its_losses = REFINERS[name]
    model, _ = detector(style, score_threshold=0.2)
    model.mask_head = make()
    losses = DetectorLosses(numerics=NUMERICS[style], mask_losses=its_losses)
    batch = batch_of([(96, 128), (90, 100)])
    for targets in ([nothing(), square(20, 30, 40, polygon=True)], [nothing(), nothing()]):
        model.zero_grad()
        found = losses(model(batch.images, batch.sizes, targets), targets)
        sum(found.values()).backward()
        assert all(value.isfinite() for value in found.values())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        outputs = model.eval()(batch.images, batch.sizes)
    assert outputs.regions.probabilities.shape[1:] == (112, 112)
    assert all(r.instances.masks for r in DetectionResults()(outputs, batch))


@pytest.mark.parametrize("make", [
    lambda: Swin(embed_dim=24, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8)),
    lambda: ResNet(50, groups=32, width=8, deformable=(False, False, False, True)),
], ids=["swin", "resnext"])  # fmt: skip
def test_other_backbones_carry_a_detector(make):
    model, losses = detector(backbone=make())
    batch = batch_of([(96, 128)])
    targets = [square(20, 30, 40)]
    found = losses(model(batch.images, batch.sizes, targets), targets)
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
