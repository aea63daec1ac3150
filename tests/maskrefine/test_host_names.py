"""Official checkpoints of detectors: names and shapes, both ways."""

import json
import pickle

import numpy as np
import pytest
import torch
from golden_hosts import HOSTS, STYLE, new_model, official_shapes

from maskrefine import refinemask, transfiner
from maskrefine.official_names import inside_detector
from maskrefine.refinemask import RefineMaskHead
from maskrefine.transfiner import TransfinerHead
from maskrefine.weights import to_official, to_ours
from segcore.engine.checkpoint_reader import read_checkpoint

pytestmark = pytest.mark.usefixtures("golden")


def blank(host):
    with torch.device("meta"):
        return new_model(host)


@pytest.mark.parametrize("host", HOSTS)
def test_names_and_shapes_equal_the_official_both_ways(host):
    own = blank(host).state_dict()
    official = to_official(own, STYLE[host])
    assert {name: list(value.shape) for name, value in official.items()} == official_shapes(host)
    again = to_ours(official)
    assert again.keys() == own.keys()
    assert all(again[name] is value for name, value in official_values(own, official))


def official_values(own, official):
    """(our name, tensor) by the order of the two dictionaries, which renaming keeps."""
    return zip(own, official.values(), strict=True)


@pytest.mark.parametrize(("host", "head", "rows", "place", "recorded"), [
    ("d2_r50", TransfinerHead, transfiner.OFFICIAL, "roi_heads.", "transfiner"),
    ("mm_r50", RefineMaskHead, refinemask.OFFICIAL, "roi_head.mask_head.", "refinemask"),
])  # fmt: skip
def test_names_of_refined_detectors_equal_the_official_both_ways(
    golden, host, head, rows, place, recorded
):
    names = {STYLE[host]: inside_detector(rows, place)}
    with torch.device("meta"):
        model = new_model(host)
        model.mask_head = head(num_classes=80)
    own = model.state_dict()
    official = to_official(own, STYLE[host], names)
    wanted = {k: v for k, v in official_shapes(host).items() if ".mask_head." not in k}
    keys = json.loads((golden / "refiners" / f"{recorded}.keys.json").read_text())
    wanted |= {place + name: shape for name, shape in keys.items()}
    assert {name: list(value.shape) for name, value in official.items()} == wanted
    again = to_ours(official, names)
    assert again.keys() == own.keys()
    assert all(again[name] is value for name, value in official_values(own, official))


def test_names_of_swin_hosts_are_read():
    names = ("patch_embed.proj.weight", "layers.0.blocks.1.attn.qkv.bias", "norm3.weight",
             "layers.0.downsample.norm.weight")  # fmt: skip
    official = {f"backbone.bottom_up.{name}": torch.zeros(2) for name in names}
    ours = to_ours(official)
    assert list(ours) == [f"backbone.{name}" for name in names]
    assert list(to_official(ours, "detectron2")) == list(official)


def test_caffe2_backbones_fill_all_but_the_heads():
    """MSRA's and FAIR's ImageNet networks; those without statistics have mean 0, variance 1."""
    own = {k: v for k, v in blank("d2_r50").state_dict().items() if k.startswith("backbone.")}
    values = {"weight": "gamma", "bias": "beta", "running_mean": "rm", "running_var": "riv"}
    caffe2 = {"fc1000_w": torch.zeros(1000, 2048)}
    for name, value in own.items():
        path, kind = name.removeprefix("backbone.").rsplit(".", 1)
        branches = {"downsample": "1", "conv1": "2a", "bn1": "2a", "conv2": "2b", "bn2": "2b",
                    "conv3": "2c", "bn3": "2c"}  # fmt: skip
        parts = path.split(".")
        norm = "bn" in path or path.endswith("downsample.1")
        ending = f"bn_{values[kind]}" if norm else "w"
        if parts[0] == "layers":
            branch = branches[parts[3]]
            stem = f"res{int(parts[1]) + 2}_{parts[2]}_branch{branch}"
        else:
            stem = "res_conv1" if norm else "conv1"
        caffe2[f"{stem}_{ending}"] = value
    ours = to_ours(caffe2)
    assert ours.keys() - own.keys() == {"fc1000_w"} and own.keys() <= ours.keys()
    assert all(ours[name] is own[name] for name in own)

    affine = {k.replace("_gamma", "_s").replace("_beta", "_b"): torch.full((2,), 3.0)
              for k in caffe2 if not k.endswith(("_rm", "_riv"))}  # fmt: skip
    ours = to_ours(affine)
    assert own.keys() <= ours.keys()
    assert ours["backbone.layers.3.2.bn3.running_var"].tolist() == [1, 1]
    assert ours["backbone.bn1.running_mean"].tolist() == [0, 0]


def test_caffe2_files_are_read(tmp_path):
    path = tmp_path / "R-50.pkl"
    blobs = {"conv1_w": np.ones((64, 3, 7, 7), np.float32), "conv1_w_momentum": np.zeros(2)}
    path.write_bytes(pickle.dumps({"blobs": blobs}))
    found = to_ours(read_checkpoint(path)["model"])
    assert found["backbone.conv1.weight"].shape == (64, 3, 7, 7)


def test_what_no_network_needs_is_left_out():
    given = {"pixel_mean": 1, "proposal_generator.anchor_generator.cell_anchors.0": 1,
             "module.proposal_generator.rpn_head.conv.bias": 1}  # fmt: skip
    assert list(to_ours(given)) == ["rpn.conv.bias"]
