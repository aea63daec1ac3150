"""Mask2Former: backbone, pixel decoder and masked decoder in a row.

Legend: B samples, T views or frames, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segcore.nn.layers import Normalise
from segcore.structures import Outputs, Targets


class Mask2Former(nn.Module):
    """From pixels to what every decoder layer says of them.

    Args:
        video: frames share their queries, and know their place in the clip even if it is one frame
            long. Without it, more than one view is read as a clip too.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        pixel_decoder: nn.Module,
        decoder: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        video: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean=pixel_mean, std=pixel_std)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self.video = video

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8 and (B, T, 2) on the CPU -> Outputs.

        Args:
            targets: not looked at; models that choose regions in training need them.
            aux: False: only the last layer's prediction, for inference.
        """
        T = images.shape[1]
        features = self.backbone(self.normalise(images, sizes))
        pyramid, mask_features = self.pixel_decoder(features)
        views = T if self.video or T > 1 else None
        layers, queries = self.decoder(pyramid, mask_features, views, aux=aux)
        return Outputs(layers, features=features, queries=queries)
