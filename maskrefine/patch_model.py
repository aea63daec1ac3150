"""The patch network as the trainer sees a model: a patch is a sample, its mask the target.

Legend of one-letter names: B patches, S side of the network's input, h w feature cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrefine.hrnet import PatchNetwork, resize
from maskrefine.patch_numerics import network_input, normalise
from segcore.structures import Outputs, Regions, Targets


class PatchSegmenter(nn.Module):
    """Patches of four channels, image and coarse mask, -> logits of background and foreground."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, 1, 4, S, S) uint8, RGB and the coarse mask as 0 or 1 -> Outputs with `regions`.

        Of each patch, one region: itself, with one entry of logits (B, 2, S/4, S/4).
        """
        colors, coarse = images[:, 0, :3], images[:, 0, 3] > 0
        logits = self.network(network_input(normalise(colors), coarse))
        number = torch.arange(len(images), device=images.device)
        side = float(images.shape[-1])
        boxes = torch.tensor([[0.0, 0.0, side, side]], device=images.device).expand(len(images), 4)
        return Outputs([], regions=Regions(number, boxes, torch.zeros_like(number), [logits]))


def losses(outputs: Outputs, targets: list[Targets], counts: Tensor) -> dict[str, Tensor]:
    """Cross-entropy of background and foreground, the mean over all pixels of all patches.

    Args:
        targets: of each patch one mask (1, 1, S, S).
        counts: (2,) patches of a batch, averaged over ranks.
    """
    assert outputs.regions is not None
    (logits,) = outputs.regions.logits
    truth = torch.cat([t.masks[:, 0] for t in targets]).long()  # (B, S, S)
    full = resize(logits.float(), truth.shape[-1])
    each = F.cross_entropy(full, truth, reduction="none").mean((1, 2))  # (B,)
    return {"loss_seg": each.sum() / counts[0]}
