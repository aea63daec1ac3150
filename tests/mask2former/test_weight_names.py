"""Names and shapes against lists that were not made by this code."""

from pathlib import Path

import pytest
import torch

from mask2former.decoder import MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import PixelDecoder
from mask2former.weights import to_official, to_ours
from segcore.nn.backbones import ResNet
from segcore.nn.swin import Swin

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def model_of(backbone, num_classes):
    return Mask2Former(
        backbone=backbone,
        pixel_decoder=PixelDecoder(backbone.channels),
        decoder=MaskedDecoder(num_classes=num_classes),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )


def listed(head_only=False):
    """What the published model's own state dict holds: a Swin-T with one class."""
    lines = (GOLDEN / "mask2former_swin_t_2_classes.txt").read_text().split("\n")
    pairs = [line.split(" ") for line in lines if line]
    found = {k: tuple(int(n) for n in shape.split("x")) for k, shape in pairs}
    return {k: v for k, v in found.items() if k.startswith("sem_seg_head.") or not head_only}


def resnet_names(depth, sync):
    """Specification, section 2.1, spelled out."""
    norm = ("weight", "bias", "running_mean", "running_var")
    names: dict[str, tuple[int, ...]] = {}

    def add(name, *shape):
        names[f"backbone.{name}.weight"] = shape
        names.update({f"backbone.{name}.norm.{n}": shape[:1] for n in norm})
        if sync:
            names[f"backbone.{name}.norm.num_batches_tracked"] = ()

    add("stem.conv1", 64, 3, 7, 7)
    width_in = 64
    for i, count in enumerate(BLOCKS[depth]):
        inner, outer = 64 * 2**i, 256 * 2**i
        for block in range(count):
            place = f"res{i + 2}.{block}"
            if block == 0:
                add(f"{place}.shortcut", outer, width_in, 1, 1)
            add(f"{place}.conv1", inner, width_in, 1, 1)
            add(f"{place}.conv2", inner, inner, 3, 3)
            add(f"{place}.conv3", outer, inner, 1, 1)
            width_in = outer
    return names


def shapes(state):
    return {k: tuple(v.shape) for k, v in state.items()}


def test_swin_t_has_the_listed_names_and_shapes():
    with torch.device("meta"):
        model = model_of(Swin(), 1)
    official = to_official(model.state_dict())
    assert shapes(official) == listed() | {"criterion.empty_weight": (2,)}
    assert shapes(to_ours(official)) == shapes(model.state_dict())


@pytest.mark.parametrize(
    "depth, norm, entries",
    [(50, "FrozenBN", 558), (101, "FrozenBN", 813), (50, "SyncBN", 611)],
)
def test_resnets_have_the_listed_names_and_shapes(depth, norm, entries):
    with torch.device("meta"):
        model = model_of(ResNet(depth, norm), 133)
    official = shapes(to_official(model.state_dict()))
    head = listed(head_only=True)
    start = "sem_seg_head.predictor.class_embed."
    head |= {f"{start}weight": (134, 256), f"{start}bias": (134,)}
    for level, channels in enumerate((2048, 1024, 512)):
        head[f"sem_seg_head.pixel_decoder.input_proj.{level}.0.weight"] = (256, channels, 1, 1)
    head["sem_seg_head.pixel_decoder.adapter_1.weight"] = (256, 256, 1, 1)
    backbone = resnet_names(depth, norm == "SyncBN")
    assert official == backbone | head | {"criterion.empty_weight": (134,)}
    assert len(official) == entries
    assert shapes(to_ours(to_official(model.state_dict()))) == shapes(model.state_dict())


def test_values_travel_both_ways_and_the_class_weights_are_the_published_ones():
    state = model_of(ResNet(50), 3).state_dict()
    official = to_official(state)
    assert official["criterion.empty_weight"].tolist() == pytest.approx([1, 1, 1, 0.1])
    back = to_ours(official)
    assert back.keys() == state.keys()
    assert all(back[k] is state[k] for k in state)


def test_what_other_versions_carry_besides_is_passed_over():
    with torch.device("meta"):
        state = model_of(ResNet(50), 3).state_dict()
    official = to_official(state)
    extra = {"pixel_mean": 0, "pixel_std": 0, "module.criterion.empty_weight": 0}
    extra["backbone.layers.0.blocks.1.attn_mask"] = 0
    wrapped = {f"module.{k}": v for k, v in official.items()} | extra
    assert to_ours(wrapped).keys() == state.keys()
    assert to_ours(state).keys() == state.keys()  # our own names stay
