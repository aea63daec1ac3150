"""A detector prepared for a CPU gives what the plain one gives."""

import pytest
import torch
from prepared_models import assert_alike, both, needs_onednn, pixels

from maskrefine.fpn import FPN
from maskrefine.prepared import PREPARED
from maskrefine.resnet import ResNet

pytestmark = needs_onednn


@pytest.mark.parametrize("options", [{}, {"learned_affine": True}, {"stride_in_1x1": True}])
def test_the_pyramid_of_every_size_equals_the_plain_one(options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(ResNet(50, **options), FPN(ResNet.channels, 64))
    plain, prepared = both(model, PREPARED)
    for size in ((64, 96), (50, 70)):
        images = pixels(1, 1, 3, *size)[0][:, 0].float() / 64 - 2
        with torch.inference_mode():
            for mine, wanted in zip(prepared(images), plain(images), strict=True):
                assert_alike(mine, wanted)


def test_deformable_convolutions_keep_their_weights():
    torch.manual_seed(0)
    plain, prepared = both(ResNet(50, deformable=(False, False, False, True)), PREPARED)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for mine, wanted in zip(prepared(images), plain(images), strict=True):
            assert_alike(mine, wanted)
