"""Inputs of the recorded mask heads: features and weights by formula, boxes, objects."""

import json
from functools import cache

import numpy as np
import torch
from formulas import PHI, bits, key_shapes, weights

from segcore.structures import Polygons, Regions, Targets

PADDED = (256, 320)


@cache
def arrays(folder, name):
    """The recorded arrays of a file as tensors."""
    with np.load(folder / "refiners" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@cache
def facts(folder, name):
    """The recorded settings and numbers of a head."""
    return json.loads((folder / "refiners" / f"{name}.json").read_text())


@cache
def published_weights(folder, name):
    return weights(key_shapes(folder / "refiners", name))


def masks_of(packed, height, width=None):
    """Recorded bits -> (n, H, W) bool."""
    return torch.from_numpy(bits(packed.numpy(), height, width or height))


@cache
def pyramid(samples, amplitude):
    """P2..P5 of padded images."""
    maps = []
    for level in range(4):
        h, w = (size // (4 << level) for size in PADDED)
        b, c, y, x = np.ogrid[:samples, :256, :h, :w]
        angle = (0.19 + 0.037 * (c % 17)) * y + (0.13 + 0.029 * (c % 13)) * x
        wave = np.sin(angle + 1.7 * c + 0.6 * level + 1.1 * b + PHI)
        maps.append(torch.from_numpy((amplitude * wave).astype(np.float32)))
    return maps


def detections(folder, name):
    """The boxes of a recorded inference."""
    a = arrays(folder, name)
    labels = a["classes"] if "classes" in a else a["labels"]
    return Regions(torch.zeros_like(labels), a["boxes"], labels)


def proposals(folder, name):
    """The boxes of a recorded training step."""
    a = arrays(folder, name)
    labels = a["gt_classes"] if "gt_classes" in a else a["labels"]
    sample, matched = a["image_of_box"].long(), a["gt_index"].long()
    return Regions(sample, a["proposal_boxes"], labels, matched=matched)


def objects(folder, name, masks, sizes=None, drawn=True):
    """The recorded objects of two images.

    Args:
        masks: of each image (N, H, W) bool.
        sizes: of the images without padding.
        drawn: whether their polygons are known.
    """
    known = facts(folder, name)
    rings = [[[tuple(ring)] for ring in image] for image in known["polygons"]]
    rings[0][1].append(tuple(known["second_polygon_of_image0_gt1"]))
    out = []
    for i, (image, bitmaps) in enumerate(zip(rings, masks, strict=True)):
        present = torch.ones(len(image), 1, dtype=torch.bool)
        shapes = [Polygons(tuple(parts)) for parts in image]
        target = Targets(torch.zeros(len(image)).long(), bitmaps[:, None], present)
        target.polygons = shapes if drawn else None
        target.size = sizes[i] if sizes else None
        out.append(target)
    return out


def total_gradients(head, features, losses):
    """Sum of absolute gradients of all losses: of every weight by its official name, of P2..P5."""
    features = [f.clone().requires_grad_() for f in features]
    head.zero_grad()
    found = losses(features)
    sum(found.values()).backward()
    names = {id(p): name for name, p in official_parameters(head).items()}
    weights_ = {names[id(p)]: p.grad.double().abs().sum().item() for p in head.parameters()}
    maps = [0.0 if f.grad is None else f.grad.double().abs().sum().item() for f in features]
    return {k: v.item() for k, v in found.items()}, weights_, maps


def official_parameters(head):
    own = dict(head.named_parameters())
    return dict(zip(head.official_state(), (own[name] for name in head.state_dict()), strict=True))
