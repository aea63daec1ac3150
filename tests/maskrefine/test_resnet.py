"""Residual networks of detectors."""

import pytest
import torch

from maskrefine.resnet import ResNet
from segcore.errors import ConfigError
from segcore.nn.backbones import ResNet as TimmResNet
from segcore.nn.backbones import TimmBackbone


def randomise(model):
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.normal_(1 if "running_var" in name or value.dim() == 1 else 0, 0.02)


@pytest.mark.slow
def test_stride_in_the_3x3_equals_the_network_without_detection():
    theirs = TimmResNet(50)
    randomise(theirs)
    ours = ResNet(50)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for mine, wanted in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))


def test_resnext_101_32x8d_has_the_published_shapes():
    with torch.device("meta"):
        ours = ResNet(101, groups=32, width=8).state_dict()
        theirs = TimmBackbone("resnext101_32x8d").state_dict()
    kept = [v.shape for k, v in theirs.items() if not k.endswith("num_batches_tracked")]
    assert sorted(kept) == sorted(v.shape for v in ours.values())


@pytest.mark.slow
def test_deformation_starts_from_nothing():
    torch.manual_seed(0)
    plain = ResNet(50)
    deformable = ResNet(50, deformable=(False, True, True, True))
    missing = deformable.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert len(missing) == 26 and all("conv2_offset" in name for name in missing)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for mine, wanted in zip(deformable(images), plain(images), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))


@pytest.mark.parametrize("affine", [False, True])
def test_statistics_stand_still_and_the_first_parts_do_not_learn(affine):
    model = ResNet(50, learned_affine=affine)
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    sum(x.sum() for x in model.train()(torch.randn(1, 3, 64, 64))).backward()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    learned = {name.split(".")[0] + name.split(".")[1] for name, p in model.named_parameters()
               if p.grad is not None}  # fmt: skip
    assert learned == {"layers1", "layers2", "layers3"}
    norms = [name for name, p in model.named_parameters() if "bn" in name and p.grad is not None]
    assert bool(norms) == affine


def test_an_unknown_depth_raises():
    with pytest.raises(ConfigError, match="DEPTH 34: expected 50, 101 or 152"):
        ResNet(34)
