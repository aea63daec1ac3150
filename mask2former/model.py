"""Mask2Former: backbone, pixel decoder and masked decoder in a row.

Legend: B samples, T views or frames, H W input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore.nn.layers import normalise
from segcore.structures import Outputs, Targets


class Mask2Former(nn.Module):
    """From pixels to what every decoder layer says of them.

    Args:
        video: frames share their queries, and know their place in the clip even if it is one frame
            long. Without it, more than one view is read as a clip too.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

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
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self.video = video
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

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
        features = self.backbone(normalise(images, sizes, self.pixel_mean, self.pixel_std))
        pyramid, mask_features = self.pixel_decoder(features)
        views = T if self.video or T > 1 else None
        layers, _ = self.decoder(pyramid, mask_features, views, aux=aux)
        return Outputs(layers, features=features)
