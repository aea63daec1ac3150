"""The two recorded detectors: weights and images by formula, as the recorded numbers were made."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch

from maskrefine.box_head import BoxHead
from maskrefine.detector import TwoStage
from maskrefine.fpn import FPN
from maskrefine.mask_head import PlainMaskHead
from maskrefine.numerics import NUMERICS
from maskrefine.proposals import RegionProposals
from maskrefine.resnet import ResNet
from maskrefine.weights import to_ours
from segcore import masks as mask_io
from segcore.structures import Polygons, Regions, Targets

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "golden" / "hosts"
HOSTS = ("d2_r50", "d2_r50_deform", "mm_r50")
STYLE = {"d2_r50": "detectron2", "d2_r50_deform": "detectron2", "mm_r50": "mmdet"}
# of each style: padding colour, order of channels, and where strides are
PIXELS = {
    "detectron2": {"pixel_mean": (103.53, 116.28, 123.675), "pixel_std": (1.0, 1.0, 1.0)},
    "mmdet": {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)},
}


class NoMasks(torch.nn.Module):
    """A mask head of a detector without masks."""

    def forward(self, features, regions):
        return regions


@cache
def facts(host):
    """(settings, arrays) that were recorded."""
    settings = json.loads((FOLDER / f"{host}.json").read_text())
    return settings, np.load(FOLDER / f"{host}.npz")


def official_shapes(host):
    return json.loads((FOLDER / f"{host}.keys.json").read_text())


def new_model(host, **options):
    """The same network with random weights."""
    style = STYLE[host]
    caffe = style == "detectron2"
    numerics = NUMERICS[style]
    deformable = (False, *[host == "d2_r50_deform"] * 3)
    backbone = ResNet(50, stride_in_1x1=caffe, deformable=deformable, learned_affine=not caffe)
    head = PlainMaskHead(num_classes=80, numerics=numerics) if caffe else NoMasks()
    return TwoStage(
        backbone=backbone,
        neck=FPN(backbone.channels, fill=numerics.fill),
        rpn=RegionProposals(numerics=numerics),
        box_head=BoxHead(num_classes=80, numerics=numerics),
        mask_head=head,
        bgr=caffe,
        **PIXELS[style],
        **options,
    )


def formula_weights(host):
    """Official state dict by the recorded recipe."""
    settings, _ = facts(host)
    shapes = official_shapes(host)
    state = {}
    for i, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=torch.int64)
            continue
        z = np.random.RandomState(settings["seed"] + i).standard_normal(int(np.prod(shape)))
        value = _by_rank(name, z.reshape(shape))
        for pattern, gain in settings["gains"]:
            value = value * gain if re.fullmatch(pattern, name) else value
        state[name] = torch.from_numpy(value.astype(np.float32))
    added = torch.tensor(settings["cls_score_bias_added"], dtype=torch.float32)
    for name in state:
        if name.endswith(("cls_score.bias", "fc_cls.bias")):
            state[name] += added
    return state


def _by_rank(name, z):
    if name.endswith("running_var"):
        return 1 + 0.5 * np.abs(z)
    if name.endswith("running_mean"):
        return 0.1 * z
    if z.ndim > 1:
        return z / np.sqrt(z.size / z.shape[0])
    return 1 + 0.1 * z if name.endswith("weight") else 0.05 * z


@cache
def model_of(host):
    """The recorded network; nothing in it differs between training and test but the targets."""
    model = new_model(host, regions_per_image=8192)
    model.load_state_dict(to_ours(formula_weights(host)))
    return model


def picture(h, w, phi):
    """(3, h, w) uint8, channels as the network gets them."""
    c, y, x = np.mgrid[:3, :h, :w].astype(np.float64)
    angle = 0.09 * y + 0.05 * x * (1 + 0.4 * c) + c + phi
    return torch.from_numpy(np.floor(127.5 + 127.5 * np.sin(angle)).astype(np.uint8))


def batch_of(host, sizes, phis):
    """(B, 1, 3, H, W) uint8 RGB on a canvas of multiples of 32, (B, 1, 2) sizes."""
    height, width = (-(-max(side) // 32) * 32 for side in zip(*sizes, strict=True))
    images = torch.zeros(len(sizes), 1, 3, height, width, dtype=torch.uint8)
    for image, (h, w), phi in zip(images, sizes, phis, strict=True):
        image[0, :, :h, :w] = picture(h, w, phi)
    if STYLE[host] == "detectron2":
        images = images.flip(2)
    return images, torch.tensor(sizes)[:, None]


def batch(host, names):
    """The recorded images of these names as one batch."""
    inputs = facts(host)[0]["inputs"]
    return batch_of(host, [inputs[n]["size"] for n in names], [inputs[n]["phi"] for n in names])


@cache
def pyramid_of(host, names):
    """(res2..res5, p2..p6, batch) of the recorded network."""
    model, (images, sizes) = model_of(host), batch(host, names)
    kept = []
    hook = model.backbone.register_forward_hook(lambda m, a, out: kept.extend(out))
    with torch.no_grad():
        pyramid = model.pyramid(images, sizes)
    hook.remove()
    return kept, pyramid, sizes


def regions_of(boxes, labels=None):
    """Regions of one sample."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    none = torch.zeros(len(boxes), dtype=torch.int64)
    return Regions(none, boxes, none if labels is None else torch.as_tensor(labels))


def targets_of(host, name, height, width):
    """The recorded objects of an image on a canvas."""
    objects = facts(host)[0]["gt"][name]
    rings = [[tuple(p) for p in o["polys"]] for o in objects]
    masks = torch.from_numpy(mask_io.rasterise(rings, (height, width)))[:, None]
    labels = torch.tensor([o["cls"] for o in objects])
    present = torch.ones(len(labels), 1, dtype=torch.bool)
    return Targets(labels, masks, present, [Polygons(tuple(r)) for r in rings])
