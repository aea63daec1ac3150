"""CropFormer's modules trained on a CPU; see segcore.nn.cpu_training."""

from __future__ import annotations

from torch import nn

from cropformer.model import CropFormer
from mask2former import cpu_training
from mask2former.cpu_training import move_mask_convolution
from segcore.nn.cpu_training import Trained


def _cropformer(model: CropFormer) -> None:
    move_mask_convolution(model.pixel_decoder, model.decoder.decoder)


TRAINED: dict[type[nn.Module], Trained] = cpu_training.TRAINED | {CropFormer: _cropformer}
