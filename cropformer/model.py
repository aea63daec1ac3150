"""CropFormer: Mask2Former's parts, with a decoder that looks twice.

Legend of one-letter names: B samples, T views, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cropformer.decoder import CropDecoder
from segcore.nn.layers import normalise
from segcore.structures import Outputs, Targets


class CropFormer(nn.Module):
    """From pixels of several views to what every decoder layer says of them."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pixel_decoder: nn.Module,
        decoder: CropDecoder,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8 and (B, T, 2) on the CPU -> Outputs; view 0 is the whole image."""
        features = self.backbone(normalise(images, sizes, self.pixel_mean, self.pixel_std))
        pyramid, mask_features = self.pixel_decoder(features)
        per_view, joint = self.decoder(pyramid, mask_features, images.shape[1], aux)
        return Outputs(joint, per_view=per_view, features=features)
