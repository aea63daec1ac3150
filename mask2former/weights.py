"""Official state-dict names and ours, both ways. Content decides, never version metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from mask2former import hugging_face_names
from segcore.engine.renaming import renamed

# (official, ours): longest parts of names that differ; backbones follow below
HEAD = (
    ("sem_seg_head.pixel_decoder.", "pixel_decoder."),
    (
        "sem_seg_head.predictor.transformer_cross_attention_layers.{}.multihead_attn.",
        "decoder.layers.{}.cross_attn.",
    ),
    (
        "sem_seg_head.predictor.transformer_cross_attention_layers.{}.norm.",
        "decoder.layers.{}.cross_norm.",
    ),
    (
        "sem_seg_head.predictor.transformer_self_attention_layers.{}.self_attn.",
        "decoder.layers.{}.self_attn.",
    ),
    (
        "sem_seg_head.predictor.transformer_self_attention_layers.{}.norm.",
        "decoder.layers.{}.self_norm.",
    ),
    ("sem_seg_head.predictor.transformer_ffn_layers.{}.norm.", "decoder.layers.{}.ffn_norm."),
    ("sem_seg_head.predictor.transformer_ffn_layers.{}.", "decoder.layers.{}."),
    ("sem_seg_head.predictor.", "decoder."),
)
RESNET = (
    ("backbone.stem.conv1.norm.", "backbone.bn1."),
    ("backbone.stem.conv1.", "backbone.conv1."),
    *((f"backbone.res{i + 2}.{{}}.{theirs}", f"backbone.layers.{i}.{{}}.{ours}")
      for i in range(4)
      for theirs, ours in (
          ("shortcut.norm.", "downsample.1."), ("shortcut.", "downsample.0."),
          ("conv1.norm.", "bn1."), ("conv2.norm.", "bn2."), ("conv3.norm.", "bn3."),
          ("conv", "conv"),
      )),
)  # fmt: skip
DROPPED = re.compile(r"(^|\.)(pixel_mean|pixel_std|attn_mask)$|^criterion\.empty_weight$")


def to_ours(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names of any official checkpoint of any age, or Hugging Face's -> ours; ours stay."""
    if hugging_face_names.is_theirs(state):
        return hugging_face_names.to_ours(state)
    state = {re.sub(r"^(module\.)+", "", k): v for k, v in state.items()}
    bare_head = not any(k.startswith("sem_seg_head.pixel_decoder.") for k in state)
    out = {}
    for name, value in state.items():
        if DROPPED.search(name):
            continue
        if bare_head and re.match(r"sem_seg_head\.(?!predictor\.)", name):
            name = name.replace("sem_seg_head.", "sem_seg_head.pixel_decoder.", 1)
        name = re.sub(r"^(sem_seg_head\.)(pixel_decoder\.)+", r"\1\2", name)
        name = name.replace("predictor.static_query.", "predictor.query_feat.")
        name = renamed(name, HEAD, to_ours=True)
        out[renamed(name, RESNET, to_ours=True)] = value
    return out


def to_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """Our names -> official ones, with the constant `criterion.empty_weight`."""
    is_resnet = "backbone.conv1.weight" in state
    out = {}
    for name, value in state.items():
        official = renamed(name, HEAD, to_ours=False)
        out[renamed(official, RESNET, to_ours=False) if is_resnet else official] = value
    classes = out.get("sem_seg_head.predictor.class_embed.bias")
    if classes is not None:
        weight = torch.ones(len(classes), device=classes.device)
        if not weight.is_meta:
            weight[-1] = 0.1
        out["criterion.empty_weight"] = weight
    return out
