"""Boundary patch refinement (arXiv 2104.05239): better masks of any model, from its masks alone.

Legend of one-letter names: N masks, P patches, S side of the network's input, s side of a patch,
H W pixels of the image, h w feature cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maskrefine.hrnet import PatchNetwork, resize
from maskrefine.opencv_resize import resize_uint8
from maskrefine.patches import PATCH_SIZE, PatchedMask
from segcore import masks as mask_io
from segcore.errors import ConfigError, DataError
from segcore.structures import Rle

MEAN = (123.675, 116.28, 103.53)  # of RGB in ImageNet
STD = (58.395, 57.12, 57.375)
BATCH_SIZE = {"cpu": 16, "cuda": 256}  # patches that pass the network at once


@dataclass(frozen=True, slots=True)
class Numerics:
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


NUMERICS = {
    # the evaluated program: patches went through files of 8 bits, logits are resized
    "batch": Numerics(
        lambda patches, side: normalise(resize_uint8(patches, side)),
        lambda logits, side, size: resize(resize(logits, side), size).sigmoid()[:, 0],
    ),
    # the later demo: nothing is rounded, probabilities are resized
    "demo": Numerics(
        lambda patches, side: resize(normalise(patches), side),
        lambda logits, side, size: resize(resize(logits, side).sigmoid(), size)[:, 0],
    ),
}


def network_input(images: Tensor, coarse: Tensor) -> Tensor:
    """(P, 3, S, S) normalised and (P, s, s) bool -> (P, 4, S, S), the mask as -1 and 1."""
    side = images.shape[-1]
    signs = 2 * F.interpolate(coarse[:, None].float(), (side, side), mode="nearest") - 1
    return torch.cat((images, signs), 1)


def inside(logits: Tensor) -> Tensor:
    """(P, 2, h, w) logits -> (P, 1, h, w): their softmax's foreground is this one's sigmoid."""
    return logits[:, 1:] - logits[:, :1]


class PatchRefiner:
    """Refine masks of an image along their boundaries; each mask for itself.

    Args:
        network: trained; it is put into eval mode, and works where its weights lie.
        patch_size: pixels of the image on a side of a patch.
        precision: of the network's products; everything else is float32.
        batch_size: patches at a time; None: what suits the device.
    """

    def __init__(
        self,
        network: PatchNetwork,
        *,
        patch_size: int = PATCH_SIZE,
        precision: torch.dtype = torch.float32,
        batch_size: int | None = None,
    ) -> None:
        self.network, self.patch_size, self.precision = network.eval(), patch_size, precision
        self.device = next(network.parameters()).device
        self.batch_size = batch_size or BATCH_SIZE.get(self.device.type, BATCH_SIZE["cuda"])

    def load_official(self, state: Mapping[str, Any]) -> None:
        """A published checkpoint's `state_dict`; WeightsError where a name or a shape differs."""
        self.network.load_official(state)

    def __call__(
        self,
        image: np.ndarray,
        masks: np.ndarray,
        iou_threshold: float = 0.25,
        numerics: str = "batch",
    ) -> np.ndarray:
        """The same masks, refined: (N, H, W) bool.

        Masks without a pixel, and all masks of an image that is no larger than a patch, stay as
        they are.

        Args:
            image: (H, W, 3) uint8 RGB
            masks: (N, H, W) bool
            iou_threshold: windows of a mask overlap at most so much: .25 is fast, .55 best.
            numerics: "batch", whose results are published, or "demo"; they differ by few pixels.
        """
        if masks.shape[1:] != image.shape[:2]:
            raise DataError(
                f"masks are {masks.shape[1:]}, the image is {image.shape[:2]} (height, width);"
                " expected the same; resize the masks to the image first"
            )
        refined = masks.copy()
        cut = (self._cut(i, mask, None, iou_threshold) for i, mask in enumerate(masks))
        for mask in self._refined(image, cut, numerics):
            _paste(refined[mask.number], mask)
        return refined

    def refine_rles(
        self,
        image: np.ndarray,
        rles: Sequence[Rle],
        iou_threshold: float = 0.25,
        numerics: str = "batch",
    ) -> list[Rle]:
        """The same of masks as RLEs; only a few of them are pixels at any time."""
        for i, rle in enumerate(rles):
            if tuple(rle["size"]) != image.shape[:2]:
                raise DataError(
                    f"mask {i} has size {tuple(rle['size'])}, the image is {image.shape[:2]}"
                    " (height, width); expected the same: are they of this image?"
                )
        refined, boxes = list(rles), mask_io.boxes(rles) if rles else np.zeros((0, 4))
        cut = (
            self._cut(i, mask_io.decode(rle), box, iou_threshold)
            for i, (rle, box) in enumerate(zip(rles, boxes, strict=True))
        )
        page = np.zeros(image.shape[1::-1], bool).T  # (H, W), column-major: the layout of RLEs
        for mask in self._refined(image, cut, numerics):
            part = _paste(page, mask)
            refined[mask.number] = mask_io.encode(page[None])[0]
            page[part] = False
        return refined

    def _cut(
        self, number: int, mask: np.ndarray, box: np.ndarray | None, iou_threshold: float
    ) -> PatchedMask:
        return PatchedMask.of(
            mask, iou_threshold=iou_threshold, size=self.patch_size, number=number, box=box
        )

    def _refined(
        self, image: np.ndarray, cut: Iterable[PatchedMask], numerics: str
    ) -> Iterator[PatchedMask]:
        """Masks that have patches, each when all its patches have passed the network."""
        if numerics not in NUMERICS:
            raise ConfigError(f"numerics {numerics!r}: expected one of {', '.join(NUMERICS)}")
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(self.device)
        patches = ((mask, i) for mask in cut for i in range(len(mask.boxes)))
        while batch := list(islice(patches, self.batch_size)):
            probabilities = self._probabilities(pixels, batch, NUMERICS[numerics])
            # one by one, because windows overlap and sums keep the published order
            for (mask, i), patch in zip(batch, probabilities, strict=True):
                mask.add(i, patch)
                if i == len(mask.boxes) - 1:
                    yield mask

    @torch.inference_mode()
    def _probabilities(
        self, image: Tensor, batch: Sequence[tuple[PatchedMask, int]], numerics: Numerics
    ) -> np.ndarray:
        """(3, H, W) uint8 and P patches, as masks and which of their boxes -> (P, s, s)."""
        s, side = self.patch_size, self.network.input_size
        x, y = (torch.tensor([int(m.boxes[i, k]) for m, i in batch]) for k in (0, 1))
        x, y = x.to(self.device), y.to(self.device)
        coarse = np.concatenate([m.patches(slice(i, i + 1)) for m, i in batch])
        colors = image.unfold(1, s, 1).unfold(2, s, 1)[:, y, x].transpose(0, 1)  # (P, 3, s, s)
        given = network_input(
            numerics.resize_image(colors, side), torch.from_numpy(coarse).to(self.device)
        )
        mixed = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=mixed):
            logits = self.network(given)
        return numerics.probabilities(inside(logits.float()), side, s).cpu().numpy()


def _paste(page: np.ndarray, mask: PatchedMask) -> tuple[slice, slice]:
    """Write a refined mask into (H, W) bool; where it was written."""
    (y, x), (h, w) = mask.corner, mask.pixels.shape
    part = (slice(y, y + h), slice(x, x + w))
    page[part] = mask.stitched()
    return part
