"""An architecture with a section of its own: a class for every pixel, from its patch's colours.

Legend: B samples, T views, K classes, H W input pixels, h w patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from segcore.build.views import build_views
from segcore.config import section
from segcore.contracts import ClassRows, Task
from segcore.keys import names, number, one_of
from segcore.structures import Outputs, Prediction, Result


@dataclass
class Patches:
    SIDE: int = number(2, low=1, high=8)
    WIDTH: int = number(16, low=1)
    ACTIVATION: str = one_of("relu", "gelu")
    NOTES: list[str] = names()


SECTIONS = {"MODEL.PATCHES": Patches}


class PixelNet(nn.Module):
    def __init__(self, num_classes, *, side, width, activation):
        super().__init__()
        self.activation = activation
        self.embed = nn.Conv2d(3, width, side, side)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, images, sizes, targets=None, aux=True):
        """(B, T, 3, H, W) -> one layer whose K queries are the K classes."""
        B, T = images.shape[:2]
        maps = self.activation(self.embed(images.flatten(0, 1).float() / 128 - 1))
        masks = self.classify(maps).unflatten(0, (B, T)).movedim(1, 2)  # (B, K, T, h, w)
        K = masks.shape[1]
        return Outputs(
            [Prediction(torch.eye(K, K + 1, device=masks.device).expand(B, -1, -1), masks)]
        )


def losses(side, outputs, targets, counts):
    """Cross-entropy of the patches that one class covers."""
    total = 0.0
    for masks, target in zip(outputs.layers[-1].masks, targets, strict=True):
        covered = F.avg_pool2d(target.masks.float(), side)  # (N, T, h, w)
        logits = masks.movedim(0, -1)[None].expand(len(covered), -1, -1, -1, -1)
        labels = target.labels[:, None, None, None].expand(covered.shape)
        total = total + F.cross_entropy(logits[covered == 1], labels[covered == 1])
    return {"loss_pixels": total / len(targets)}


def postprocess(outputs, batch):
    """The best class of every pixel at the original size."""
    results = []
    for masks, size, record in zip(
        outputs.layers[-1].masks, batch.sizes[:, 0].tolist(), batch.records, strict=True
    ):
        whole = F.interpolate(masks[None, :, 0], batch.images.shape[-2:])[..., : size[0], : size[1]]
        scores = F.interpolate(whole, record.size)[0]  # (K, H, W)
        results.append(Result(semantic=scores.argmax(0).to(torch.uint8).cpu()))
    return results


def build(cfg, metadata):
    own = section(cfg, "MODEL.PATCHES", Patches)
    model = PixelNet(
        len(metadata.classes),
        side=own.SIDE,
        width=own.WIDTH,
        activation={"relu": F.relu, "gelu": F.gelu}[own.ACTIVATION],
    )
    return Task(
        model=model,
        losses=partial(losses, own.SIDE),
        postprocess=postprocess,
        views=build_views(cfg, metadata),
        renames=dict,
        official=dict,
        metadata=metadata,
        makes=("semantic",),
        needs="labels",
        class_rows=(
            ClassRows(name="classify.weight", background=None),
            ClassRows(name="classify.bias", background=None),
        ),
    )
