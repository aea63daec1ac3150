"""What a patch goes through before and behind the network, as each of two programs has it.

Legend of one-letter names: P patches, S side of the network's input, s side of a patch, H W pixels,
h w feature cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.hrnet import resize
from maskrefine.opencv_resize import resize_uint8

MEAN = (123.675, 116.28, 103.53)  # of RGB in ImageNet
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class PatchNumerics:
    """The order of steps around the network: two published programs differ in it.

    Args:
        resize_image: (P, 3, s, s) uint8, S -> (P, 3, S, S) float32 normalised.
        probabilities: (P, 1, h, w) logits, S, s -> (P, s, s) of being inside.
    """

    resize_image: Callable[[Tensor, int], Tensor]
    probabilities: Callable[[Tensor, int, int], Tensor]


def normalise(images: Tensor) -> Tensor:
    """(P, 3, H, W) RGB of 0..255 -> float32 of mean 0 and deviation 1."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    return (images - mean) / std


PATCH_NUMERICS = {
    # the evaluated program: patches went through files of 8 bits, logits are resized
    "batch": PatchNumerics(
        lambda patches, side: normalise(resize_uint8(patches, side)),
        lambda logits, side, size: resize(resize(logits, side), size).sigmoid()[:, 0],
    ),
    # the later demo: nothing is rounded, probabilities are resized
    "demo": PatchNumerics(
        lambda patches, side: resize(normalise(patches), side),
        lambda logits, side, size: resize(resize(logits, side).sigmoid(), size)[:, 0],
    ),
}


def network_input(images: Tensor, coarse: Tensor) -> Tensor:
    """(P, 3, S, S) normalised and (P, s, s) bool -> (P, 4, S, S), the mask as -1 and 1."""
    side = images.shape[-1]
    signs = 2 * F.interpolate(coarse[:, None].float(), (side, side), mode="nearest") - 1
    return torch.cat((images, signs), 1)


def foreground(logits: Tensor) -> Tensor:
    """(P, 2, h, w) logits -> (P, 1, h, w): their softmax's foreground is this one's sigmoid."""
    return logits[:, 1:] - logits[:, :1]
