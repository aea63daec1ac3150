"""Official state-dict names and ours, both ways: detectron2's and mmdetection's. Content decides.

Names of plain backbones (torchvision, detectron2's ResNets) are read by `segcore.engine.weights`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from segcore.engine.renaming import Rows, renamed

STYLES = ("detectron2", "mmdet")
DETECTRON2: Rows = (
    ("backbone.bottom_up.stem.conv1.norm.", "backbone.bn1."),
    ("backbone.bottom_up.stem.conv1.", "backbone.conv1."),
    *((f"backbone.bottom_up.res{i + 2}.{{}}.{theirs}", f"backbone.layers.{i}.{{}}.{ours}")
      for i in range(4)
      for theirs, ours in (
          ("shortcut.norm.", "downsample.1."), ("shortcut.", "downsample.0."),
          ("conv1.norm.", "bn1."), ("conv2.norm.", "bn2."), ("conv3.norm.", "bn3."),
          ("conv", "conv"),
      )),
    *((f"backbone.fpn_{kind}{i + 2}.", f"neck.{kind}.{i}.")
      for kind in ("lateral", "output") for i in range(4)),
    ("backbone.bottom_up.", "backbone."),
    ("proposal_generator.rpn_head.conv.", "rpn.conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.deltas."),
    ("roi_heads.box_predictor.cls_score.", "box_head.classes."),
    ("roi_heads.box_predictor.bbox_pred.", "box_head.deltas."),
    ("roi_heads.box_head.", "box_head."),
)  # fmt: skip
MMDET: Rows = (
    *((f"backbone.layer{i + 1}.", f"backbone.layers.{i}.") for i in range(4)),
    ("neck.lateral_convs.{}.conv.", "neck.lateral.{}."),
    ("neck.fpn_convs.{}.conv.", "neck.output.{}."),
    ("rpn_head.rpn_conv.", "rpn.conv."),
    ("rpn_head.rpn_cls.", "rpn.logits."),
    ("rpn_head.rpn_reg.", "rpn.deltas."),
    ("roi_head.bbox_head.shared_fcs.0.", "box_head.fc1."),
    ("roi_head.bbox_head.shared_fcs.1.", "box_head.fc2."),
    ("roi_head.bbox_head.fc_cls.", "box_head.classes."),
    ("roi_head.bbox_head.fc_reg.", "box_head.deltas."),
)
PLAIN_HEAD: dict[str, Rows] = {  # the plain mask head's names
    "detectron2": (
        *((f"roi_heads.mask_head.mask_fcn{i + 1}.", f"mask_head.convs.{i}.") for i in range(8)),
        ("roi_heads.mask_head.", "mask_head."),
    ),
    "mmdet": (
        ("roi_head.mask_head.convs.{}.conv.", "mask_head.convs.{}."),
        ("roi_head.mask_head.upsample.", "mask_head.deconv."),
        ("roi_head.mask_head.conv_logits.", "mask_head.predictor."),
    ),
}
DROPPED = re.compile(r"(^|\.)(pixel_mean|pixel_std)$|(^|\.)anchor_generator\.")
NORM = re.compile(r"^(backbone\.(layers\.\d+\.\d+\.)?(bn\d|downsample\.1))\.weight$")
CAFFE2 = re.compile(r"^(?:res_)?conv1(_bn)?_(.+)$|^res(\d)_(\d+)_branch(1|2a|2b|2c)(_bn)?_(.+)$")
CAFFE2_LAYERS = {
    "1": ("downsample.0", "downsample.1"),
    "2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3"),
}  # fmt: skip
CAFFE2_VALUES = {
    "w": "weight", "b": "bias", "s": "weight", "gamma": "weight", "beta": "bias",
    "rm": "running_mean", "riv": "running_var",
    "running_mean": "running_mean", "running_var": "running_var",
}  # fmt: skip


def to_ours(state: Mapping[str, Any], head: Mapping[str, Rows] = PLAIN_HEAD) -> dict[str, Any]:
    """Names of official checkpoints, of Caffe2 backbones too -> ours; ours stay as they are.

    Args:
        head: names of the mask head, a style.
    """
    table = [row for style in STYLES for row in head.get(style, ())] + [*DETECTRON2, *MMDET]
    out = {}
    for name, value in state.items():
        name = re.sub(r"^(module\.)+", "", name)
        if not DROPPED.search(name):
            out[renamed(_caffe2_name(name), table, to_ours=True)] = value
    return out | _missing_statistics(out)


def to_official(
    state: Mapping[str, Any], style: str, head: Mapping[str, Rows] = PLAIN_HEAD
) -> dict[str, Any]:
    """Our names -> those of a style, "detectron2" or "mmdet"."""
    table = [*head.get(style, ()), *{"detectron2": DETECTRON2, "mmdet": MMDET}[style]]
    return {renamed(name, table, to_ours=False): value for name, value in state.items()}


def _caffe2_name(name: str) -> str:
    """res2_0_branch2a_bn_s -> backbone.layers.0.0.bn1.weight; other names stay."""
    match = CAFFE2.match(name)
    if not match:
        return name
    stem_norm, stem_value, stage, block, branch, norm, value = match.groups()
    if (kind := CAFFE2_VALUES.get(value or stem_value)) is None:
        return name
    if stage is None:
        return f"backbone.{'bn1' if stem_norm else 'conv1'}.{kind}"
    layer = CAFFE2_LAYERS[branch][norm is not None]
    return f"backbone.layers.{int(stage) - 2}.{block}.{layer}.{kind}"


def _missing_statistics(state: Mapping[str, Any]) -> dict[str, Any]:
    """Old backbones keep only what is left of a norm, a factor and a summand: mean 0, variance 1.

    Exactly 1, as published, though the norm adds its epsilon to it.
    """
    found = {}
    for name, value in state.items():
        match = NORM.match(name)
        if match and f"{match[1]}.running_var" not in state:
            found[f"{match[1]}.running_mean"] = torch.zeros_like(value)
            found[f"{match[1]}.running_var"] = torch.ones_like(value)
    return found
