"""CropFormer: Mask2Former's parts, with a decoder that looks twice.

Legend of one-letter names: B samples, T views, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cropformer.decoder import CropDecoder
from segcore.nn.layers import Normalise
from segcore.structures import Outputs, Targets


class CropFormer(nn.Module):
    """From pixels of several views to what every decoder layer says of them."""

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
        self.normalise = Normalise(mean=pixel_mean, std=pixel_std)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8 and (B, T, 2) on the CPU -> Outputs; view 0 is the whole image."""
        features = self.backbone(self.normalise(images, sizes))
        pyramid, mask_features = self.pixel_decoder(features)
        per_view, joint = self.decoder(pyramid, mask_features, images.shape[1], aux)
        return Outputs(joint, per_view=per_view, features=features)
