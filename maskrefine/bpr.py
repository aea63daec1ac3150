"""Boundary patch refinement (arXiv 2104.05239): better masks of any model, from its masks alone.

Legend of one-letter names: N masks, P patches, S side of the network's input, s side of a patch,
H W pixels of the image, h w feature cells.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrefine.hrnet import PatchNetwork
from maskrefine.patch_numerics import PATCH_NUMERICS, PatchNumerics, foreground, network_input
from maskrefine.patches import PATCH_SIZE, PatchedMask
from maskrefine.prepared import PATCHES
from segcore import masks as mask_io
from segcore.errors import ConfigError, DataError
from segcore.nn.prepared import prepared_or_plain
from segcore.structures import Rle

BATCH_SIZE = {"cpu": 16, "cuda": 256}  # patches that pass the network at once


class PatchRefiner:
    """Refine masks of an image along their boundaries; each mask for itself.

    Args:
        network: trained; it is put into eval mode, and works where its weights lie.
        patch_size: pixels of the image on a side of a patch.
        precision: of the network's products; everything else is float32.
        batch_size: patches at a time; None: what suits the device.
        least_area: masks of fewer pixels of the image stay as they are: the network's cells are
            too coarse for them. 0, as published: none.
    """

    def __init__(
        self,
        network: PatchNetwork,
        *,
        patch_size: int = PATCH_SIZE,
        precision: torch.dtype = torch.float32,
        batch_size: int | None = None,
        least_area: int = 0,
    ) -> None:
        self.least_area = least_area
        self.network, self.patch_size, self.precision = network.eval(), patch_size, precision
        self.device = next(network.parameters()).device
        self.batch_size = batch_size or BATCH_SIZE.get(self.device.type, BATCH_SIZE["cuda"])
        self._packed = ""  # the checksum of weights that are packed

    def load_official(self, state: Mapping[str, Any]) -> None:
        """A published checkpoint's `state_dict`; WeightsError where a name or a shape differs."""
        self.network.load_official(state)

    def pack(self) -> PatchRefiner:
        """On a CPU, its network by faster layers, which can then neither be trained nor saved."""
        if self.device.type == "cpu" and self.precision == torch.float32:  # bf16 gets slower
            self._packed = self.checksum()
            prepared_or_plain(self.network, self.precision, PATCHES)
        return self

    def checksum(self) -> str:
        """Of the network's weights, the same before and after `pack`."""
        if self._packed:
            return self._packed
        total = 0
        for tensor in self.network.state_dict().values():
            content = tensor.detach().cpu().reshape(-1).view(torch.uint8)
            total = zlib.crc32(content.numpy().data, total)
        return f"{total:08x}"

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
        cut = (self._cut(i, mask, None, iou_threshold) for i, mask in enumerate(masks))
        refined = masks.copy()
        page = _Page(self._pixels(image), cut, lambda mask: mask.paste(refined[mask.number]))
        for _ in self._finished([page], numerics):
            pass
        return refined

    def refine_rles(
        self,
        image: np.ndarray,
        rles: Sequence[Rle],
        iou_threshold: float = 0.25,
        numerics: str = "batch",
    ) -> list[Rle]:
        """The same of masks as RLEs; only a few of them are pixels at any time."""
        return next(self.refine_images([(image, rles)], iou_threshold, numerics))

    def refine_images(
        self,
        images: Iterable[tuple[np.ndarray, Sequence[Rle]]],
        iou_threshold: float = 0.25,
        numerics: str = "batch",
    ) -> Iterator[list[Rle]]:
        """The same of one image after the other; patches of all share the network's batches.

        Args:
            images: (H, W, 3) uint8 RGB, each with its masks.
        """
        results: deque[list[Rle]] = deque()
        pages = (self._page(image, rles, iou_threshold, results) for image, rles in images)
        for _ in self._finished(pages, numerics):
            yield results.popleft()

    def _page(
        self,
        image: np.ndarray,
        rles: Sequence[Rle],
        iou_threshold: float,
        results: deque[list[Rle]],
    ) -> _Page:
        """An image and its masks as RLEs, which are replaced in the last of the results."""
        for i, rle in enumerate(rles):
            if tuple(rle["size"]) != image.shape[:2]:
                raise DataError(
                    f"mask {i} has size {tuple(rle['size'])}, the image is {image.shape[:2]}"
                    " (height, width); expected the same: are they of this image?"
                )
        refined, boxes = list(rles), mask_io.boxes(rles) if rles else np.zeros((0, 4))
        empty = np.zeros(image.shape[1::-1], bool).T  # (H, W), column-major: the layout of RLEs
        cut = (
            self._cut(i, mask_io.decode(rle), box, iou_threshold)
            for i, (rle, box) in enumerate(zip(rles, boxes, strict=True))
        )

        def finish(mask: PatchedMask) -> None:
            part = mask.paste(empty)
            refined[mask.number] = mask_io.encode(empty[None])[0]
            empty[part] = False

        results.append(refined)
        return _Page(self._pixels(image), cut, finish)

    def _pixels(self, image: np.ndarray) -> Tensor:
        """(3, H, W) uint8 where the network is."""
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(self.device)

    def _cut(
        self, number: int, mask: np.ndarray, box: np.ndarray | None, iou_threshold: float
    ) -> PatchedMask:
        patched = PatchedMask.of(
            mask, iou_threshold=iou_threshold, size=self.patch_size, number=number, box=box
        )
        if np.count_nonzero(mask) < self.least_area:
            patched.boxes = patched.boxes[:0]  # nothing of it passes the network
        return patched

    def _finished(self, pages: Iterable[_Page], numerics: str) -> Iterator[_Page]:
        """Each image in turn, when all its patches have passed the network."""
        if numerics not in PATCH_NUMERICS:
            raise ConfigError(f"numerics {numerics!r}: expected one of {', '.join(PATCH_NUMERICS)}")
        patches = (patch for page in pages for patch in page.patches())
        while batch := list(islice(patches, self.batch_size)):
            inside = iter(self._probabilities(batch, PATCH_NUMERICS[numerics]))
            # one by one, because windows overlap and sums keep the published order
            for patch in batch:
                if patch.mask is None:
                    yield patch.page
                    continue
                patch.mask.add(patch.index, next(inside))
                if patch.index == len(patch.mask.boxes) - 1:
                    patch.page.finish(patch.mask)

    @torch.inference_mode()
    def _probabilities(self, batch: Sequence[_Patch], numerics: PatchNumerics) -> np.ndarray:
        """(P, s, s) of those that have a mask."""
        places = [(p.page, p.mask, p.index) for p in batch if p.mask is not None]
        if not places:
            return np.zeros((0, self.patch_size, self.patch_size), np.float32)
        side = self.network.input_size
        coarse = torch.from_numpy(np.stack([mask.patch(i) for _, mask, i in places]))
        colors = torch.cat(
            [
                self._windows(page.pixels, np.stack([mask.boxes[i] for _, mask, i in group]))
                for page, group in groupby(places, key=lambda place: place[0])
            ]
        )
        given = network_input(numerics.resize_image(colors, side), coarse.to(self.device))
        mixed = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=mixed):
            logits = self.network(given)
        logits = foreground(logits.float())
        return numerics.probabilities(logits, side, self.patch_size).cpu().numpy()

    def _windows(self, pixels: Tensor, boxes: np.ndarray) -> Tensor:
        """(3, H, W) and P boxes -> (P, 3, s, s)."""
        x, y = (torch.from_numpy(boxes[:, i]).to(self.device) for i in (0, 1))
        s = self.patch_size
        return pixels.unfold(1, s, 1).unfold(2, s, 1)[:, y, x].transpose(0, 1)


@dataclass(eq=False, slots=True)
class _Page:
    """An image on its way through the network."""

    pixels: Tensor  # (3, H, W) uint8
    masks: Iterable[PatchedMask]  # made when asked for
    finish: Callable[[PatchedMask], object]  # what is done with a mask that has all its patches

    def patches(self) -> Iterator[_Patch]:
        """Those of all masks, and at last one of none."""
        for mask in self.masks:
            yield from (_Patch(self, mask, i) for i in range(len(mask.boxes)))
        yield _Patch(self, None, 0)


@dataclass(eq=False, slots=True)
class _Patch:
    """A patch of a mask of an image; without a mask, the image's end."""

    page: _Page
    mask: PatchedMask | None
    index: int
