"""Conversion of weights."""

import pytest
import timm
import torch

from mask2former.weights import to_official
from segcore.cli.convert import convert, write
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.weights import read_checkpoint
from segcore.errors import WeightsError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small state dict of each kind."""
    folder = tmp_path_factory.mktemp("weights")
    swin = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
    names = ["decoder.query_feat.weight", "decoder.class_embed.bias", "backbone.conv1.weight"]
    ours = {name: torch.ones(3) for name in names}
    states = {
        "resnet": timm.create_model("resnet18").state_dict(),
        "timm swin": swin,
        "swin": {timm_swin_name(name): value for name, value in swin.items()},
        "ours": ours,
        "official": to_official(ours),
    }
    for name, state in states.items():
        torch.save({"model": state}, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        ("swin", ["swin"], ["resnet", "timm swin", "ours", "official"]),
        ("torchvision", ["resnet"], ["swin", "ours", "official"]),
        ("timm", ["resnet", "timm swin"], ["ours", "official"]),
        ("official", ["ours", "official"], ["resnet", "swin"]),
    ],
)
def test_weights_of_another_kind_are_not_converted(files, kind, good, wrong):
    for name in good:
        assert convert(kind, files / f"{name}.pth")["model"]
    for name in wrong:
        with pytest.raises(WeightsError, match=f"{name}.pth: .*; .*say "):
            convert(kind, files / f"{name}.pth")


def test_bfloat16_becomes_float32_where_numpy_lacks_it(files, tmp_path):
    state = read_checkpoint(files / "resnet.pth")["model"]
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(half, tmp_path / "half.pth")
    write(convert("torchvision", tmp_path / "half.pth"), tmp_path / "out.pkl")
    weight = read_checkpoint(tmp_path / "out.pkl")["model"]["stem.conv1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["conv1.weight"].float())
