"""An exported file in the place of a model: the same pixels in, the same logits out.

Legend of one-letter names: B samples, T views, Q queries, K classes, H W input pixels, h w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.errors import ConfigError, DataError
from segcore.export.opened import Opened
from segcore.structures import Outputs, Prediction, Targets


class ExportedModel(nn.Module):
    """A SegmentationModel out of a file; the images of a batch go through it one by one."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self.opened = opened

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8, (B, T, 2) -> Outputs with the last layer's prediction."""
        pairs = [self._one(*pair) for pair in zip(images.cpu(), sizes.cpu(), strict=True)]
        logits, masks = (torch.stack(x).to(images.device) for x in zip(*pairs, strict=True))
        return Outputs([Prediction(logits, masks)])

    def _one(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """(T, 3, H, W), (T, 2) -> (Q, K+1), (Q, T, h, w)"""
        facts, (views, _, H, W) = self.opened.facts, pixels.shape
        if views != facts["views"]:
            raise ConfigError(
                f"the exported model takes {facts['views']} views of an image, the config makes"
                f" {views}: set ENTITY.CROP_SAMPLE_NUM_TEST as it was when the file was made"
            )
        if facts["size"]:
            pixels = padded(pixels, facts["size"])
        if facts["pixels"]["type"] == "float32":
            pixels = pixels.float()
        named = self.opened.run(pixels.contiguous().numpy(), sizes.numpy())
        masks = torch.from_numpy(named["masks"])
        h, w = (
            cells * side // whole
            for cells, side, whole in zip(masks.shape[-2:], (H, W), pixels.shape[-2:], strict=True)
        )
        return torch.from_numpy(named["logits"]), masks[..., :h, :w]


def padded(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 3, H, W) with zeros at the right and below, as high and wide as `size`.

    DataError for images that are larger.
    """
    H, W = pixels.shape[-2:]
    if size[0] < H or size[1] < W:
        raise DataError(
            f"an image of {H}x{W} (resized, and padded to multiples of 32) is larger than the"
            f" exported model's {size[0]}x{size[1]}; export with --dynamic or a larger --size, or"
            " make images smaller with INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST"
        )
    return F.pad(pixels, (0, size[1] - W, 0, size[0] - H))
