"""CropFormer prepared for inference on a CPU; see segcore.nn.prepared."""

from __future__ import annotations

import torch
from torch import nn

from cropformer.model import CropFormer
from mask2former import prepared
from mask2former.prepared import move_mask_convolution
from segcore.nn.packed import Around, Preparation


def _cropformer(model: CropFormer, kind: torch.dtype) -> nn.Module:
    """Both passes are of one decoder, which multiplies less."""
    move_mask_convolution(model.pixel_decoder, model.decoder.decoder)
    return model


PREPARED: dict[type[nn.Module], Preparation] = prepared.PREPARED | {CropFormer: Around(_cropformer)}
