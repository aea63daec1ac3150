"""Conversion of weights."""

import pickle
import pickletools
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from tiny_model import model_of

from mask2former.weights import to_official, to_ours
from segcore.cli.convert import convert, write
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.weights import load_weights, read_checkpoint
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


def test_conversion_to_official_and_back(root, tmp_path):
    model = model_of(root, "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    official = to_official(model.state_dict())
    torch.save({"model": official}, tmp_path / "trained.pth")
    for goal in ("old.pkl", "old.pth"):
        write(convert("official", tmp_path / "trained.pth"), tmp_path / goal)
        back = read_checkpoint(tmp_path / goal)["model"]
        assert back.keys() == official.keys()
        assert all(torch.equal(v, official[k]) for k, v in back.items())
    plain = (tmp_path / "old.pkl").read_bytes()
    content = pickle.loads(plain, encoding="latin1")  # as detectron2 reads it
    assert content["__author__"]
    assert "matching_heuristics" not in content
    assert content["model"]._metadata["sem_seg_head"] == {"version": 2}
    assert all(type(v) is np.ndarray and v.flags.writeable for v in content["model"].values())
    assert not [x for _, x, _ in pickletools.genops(plain) if x and "_core" in str(x)[:40]]
    with pytest.raises(WeightsError, match="no class head"):
        torch.save({"a": torch.ones(1)}, tmp_path / "bare.pth")
        convert("official", tmp_path / "bare.pth")


@pytest.mark.parametrize("classes", [133, 1])
def test_a_start_for_entities(root, tmp_path, classes):
    """As the old convert_pretrain_cocoentity: prefixes once, the rest of the network kept."""
    resnet = ["MODEL.BACKBONE.NAME", "build_resnet_backbone"]
    official = to_official(model_of(root, *resnet, classes=classes).state_dict())
    twice = {k.replace("pixel_decoder.", "pixel_decoder.pixel_decoder.", 1): v
             for k, v in official.items()}  # fmt: skip
    torch.save({"model": twice}, tmp_path / "coco.pth")
    start = convert("entity", tmp_path / "coco.pth")["model"]
    dropped = official.keys() - start.keys()
    head = {f"sem_seg_head.predictor.class_embed.{k}" for k in ("weight", "bias")}
    assert dropped == (head | {"criterion.empty_weight"} if classes > 1 else set())
    assert all(torch.equal(v, official[k]) for k, v in start.items())


def test_converter_from_the_command_line(root, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"<html>")
    command = [sys.executable, str(root / "tools/convert_weights.py"), "swin"]
    command += [str(tmp_path / "bad.pth"), str(tmp_path / "out.pkl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "a web page" in done.stderr
    assert not (tmp_path / "out.pkl").exists()


def test_imagenet_resnet_is_converted_to_the_old_names(root, tmp_path):
    model = model_of(root, "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    state = timm.create_model("resnet50").state_dict()  # torchvision's names
    torch.save(state, tmp_path / "in.pth")
    for kind in ("torchvision", "timm"):
        write(convert(kind, tmp_path / "in.pth"), tmp_path / "R-50.pkl")
        content = read_checkpoint(tmp_path / "R-50.pkl")
        assert content["matching_heuristics"]
        wanted = {k for k in to_official(model.state_dict()) if k.startswith("backbone.")}
        assert {k.removeprefix("backbone.") for k in wanted} <= content["model"].keys()
        report = load_weights(model, content, to_ours)
        assert not [n for n in report.reinitialised if n.startswith("backbone.")]
        assert {n for n in report.unused if "num_batches" not in n} == {
            "stem.fc.weight", "stem.fc.bias",
        }  # fmt: skip
    assert torch.equal(model.backbone.layers[2][5].conv3.weight, state["layer3.5.conv3.weight"])
