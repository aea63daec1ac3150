"""The plain mask head of Mask R-CNN (He et al., 2017), the place that refiners take.

Legend of one-letter names: B samples, R regions, K classes, C channels, h w cells, s cells on a
side of a mask.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.layers import cross_entropy, mean, own_class
from maskrefine.numerics import Numerics
from maskrefine.regions import pool, pyramid_levels
from maskrefine.targets import mask_targets
from segcore.structures import Regions, Targets


class PlainMaskHead(nn.Module):
    """Four convolutions, one upsampling, a mask of 28 x 28 a class."""

    def __init__(
        self,
        channels: int = 256,
        *,
        num_classes: int,
        numerics: Numerics,
        cells: int = 14,
        convs: int = 4,
    ) -> None:
        super().__init__()
        self.numerics, self.cells = numerics, cells
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs)
        )
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.predictor = nn.Conv2d(channels, num_classes, 1)
        for layer in (*self.convs, self.deconv, self.predictor):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(self, features: list[Tensor], regions: Regions) -> Regions:
        """p2..p5 (B, C, h, w) -> `logits` (R, 1, 28, 28) of each region's class."""
        logits = own_class(self.all_classes(features, regions), regions.labels)
        training = regions.matched is not None
        return replace(
            regions,
            logits=[logits],
            probabilities=None if training else logits[:, 0].sigmoid(),
        )

    def all_classes(self, features: list[Tensor], regions: Regions) -> Tensor:
        """(R, K, 28, 28) logits in float32."""
        level = pyramid_levels(regions.boxes, **self.numerics.levels)
        x = pool(features, regions.sample, regions.boxes, self.cells, level=level)
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.predictor(F.relu(self.deconv(x))).float()


def mask_losses(
    regions: Regions, targets: list[Targets], *, least_side: float
) -> dict[str, Tensor]:
    """Mean binary cross-entropy of the masks inside their boxes; 0 without a region."""
    logits = regions.logits[-1]
    truth = mask_targets(regions, targets, logits.shape[-1], least_side=least_side)
    return {"loss_mask": mean(cross_entropy(logits[:, 0], truth))}
