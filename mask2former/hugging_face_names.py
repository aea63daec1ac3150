"""State-dict names of Hugging Face's Mask2Former -> ours, of all versions of transformers.

Their files hold the same tensors as the published ones, except that the queries', keys' and values'
projections stand apart where ours (and the published ones) are one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from segcore.engine.renaming import renamed

PIXELS, QUERIES = "pixel_level_module.", "transformer_module."
ENCODER = PIXELS + "encoder."
SWIN_BLOCK = ENCODER + "encoder.layers.{}.blocks.{}."
RESNET_BLOCK = ENCODER + "encoder.stages.{}.layers.{}."
PIXEL_LAYER = PIXELS + "decoder.encoder.layers.{}."
QUERY_LAYER = QUERIES + "decoder.layers.{}."

# (theirs, ours): beginnings of names, {} is a number; [i] the i-th part of a joined tensor
SWIN = (
    (ENCODER + "embeddings.patch_embeddings.projection.", "backbone.patch_embed.proj."),
    (ENCODER + "embeddings.norm.", "backbone.patch_embed.norm."),
    (ENCODER + "encoder.layers.{}.downsample.", "backbone.layers.{}.downsample."),
    *(
        (SWIN_BLOCK + theirs, "backbone.layers.{}.blocks.{}." + ours)
        for theirs, ours in (
            ("layernorm_before.", "norm1."),
            ("layernorm_after.", "norm2."),
            ("attention.relative_position_bias.relative_", "attn.relative_"),
            ("attention.self.relative_", "attn.relative_"),  # the table and its index
            ("attention.self.query.", "attn.qkv.[0]"),
            ("attention.self.key.", "attn.qkv.[1]"),
            ("attention.self.value.", "attn.qkv.[2]"),
            ("attention.q_proj.", "attn.qkv.[0]"),
            ("attention.k_proj.", "attn.qkv.[1]"),
            ("attention.v_proj.", "attn.qkv.[2]"),
            ("attention.output.dense.", "attn.proj."),
            ("attention.o_proj.", "attn.proj."),
            ("intermediate.dense.", "mlp.fc1."),
            ("output.dense.", "mlp.fc2."),
            ("mlp.", "mlp."),
        )
    ),
    *((f"{ENCODER}hidden_states_norms.stage{i + 1}.", f"backbone.norm{i}.") for i in range(4)),
    (ENCODER + "hidden_states_norms.{}.", "backbone.norm{}."),
)
RESNET = (
    (ENCODER + "embedder.embedder.convolution.", "backbone.conv1."),
    (ENCODER + "embedder.embedder.normalization.", "backbone.bn1."),
    (RESNET_BLOCK + "shortcut.convolution.", "backbone.layers.{}.{}.downsample.0."),
    (RESNET_BLOCK + "shortcut.normalization.", "backbone.layers.{}.{}.downsample.1."),
    *(
        (f"{RESNET_BLOCK}layer.{i}.{theirs}.", f"backbone.layers.{{}}.{{}}.{ours}{i + 1}.")
        for i in range(3)
        for theirs, ours in (("convolution", "conv"), ("normalization", "bn"))
    ),
    *((f"{ENCODER}_backbone.layer{i + 1}.", f"backbone.layers.{i}.") for i in range(4)),  # timm's
    (ENCODER + "_backbone.", "backbone."),
)
PIXEL_DECODER = (
    (PIXELS + "decoder.level_embed", "pixel_decoder.transformer.level_embed"),
    (PIXELS + "decoder.input_projections.", "pixel_decoder.input_proj."),
    *(
        (PIXEL_LAYER + theirs, "pixel_decoder.transformer.encoder.layers.{}." + ours)
        for theirs, ours in (
            ("self_attn.", "self_attn."),
            ("self_attn_layer_norm.", "norm1."),
            ("fc1.", "linear1."),
            ("fc2.", "linear2."),
            ("final_layer_norm.", "norm2."),
        )
    ),
    *(
        (f"{PIXELS}decoder.{name}.{i}.", f"pixel_decoder.{name}.{ours}")
        for name in ("adapter_1", "layer_1")
        for i, ours in enumerate(("", "norm."))
    ),
    (PIXELS + "decoder.mask_projection.", "pixel_decoder.mask_features."),
)
QUERY_DECODER = (
    (QUERIES + "queries_features.", "decoder.query_feat."),
    (QUERIES + "queries_embedder.", "decoder.query_embed."),
    (QUERIES + "level_embed.", "decoder.level_embed."),
    (QUERIES + "decoder.layernorm.", "decoder.decoder_norm."),
    (QUERIES + "decoder.mask_predictor.mask_embedder.{}.0.", "decoder.mask_embed.layers.{}."),
    *(
        (QUERY_LAYER + theirs, "decoder.layers.{}." + ours)
        for theirs, ours in (
            ("self_attn.q_proj.", "self_attn.in_proj_[0]"),
            ("self_attn.k_proj.", "self_attn.in_proj_[1]"),
            ("self_attn.v_proj.", "self_attn.in_proj_[2]"),
            ("self_attn.", "self_attn."),
            ("self_attn_layer_norm.", "self_norm."),
            ("cross_attn.", "cross_attn."),
            ("cross_attn_layer_norm.", "cross_norm."),
            ("fc1.", "linear1."),
            ("fc2.", "linear2."),
            ("final_layer_norm.", "ffn_norm."),
        )
    ),
    ("class_predictor.", "decoder.class_embed."),
)
TABLE = SWIN + RESNET + PIXEL_DECODER + QUERY_DECODER
CONSTANT = "criterion.empty_weight"
UNUSED = f"{ENCODER}layernorm."  # ImageNet's last norm, which no feature map passes
WRAPPED = re.compile(rf"^.*?(?=({PIXELS}|{QUERIES}|class_predictor\.|criterion\.))")


def is_theirs(state: Mapping[str, Any]) -> bool:
    """Whether a state dict is one of Hugging Face's Mask2Former, bare or inside another module."""
    return any(PIXELS + "encoder." in name for name in state)


def to_ours(state: Mapping[str, Any]) -> dict[str, Any]:
    """Their names -> ours, the parts of joined tensors joined; what has no place keeps its name."""
    named: dict[str, Any] = {}
    parts: dict[str, dict[int, str]] = {}  # of a joined tensor: {0: their name, 1: ..., 2: ...}
    for theirs, value in state.items():
        name = _name(theirs)
        if name == CONSTANT or name.startswith(UNUSED):
            continue
        part = re.search(r"\[(\d)\]", name)
        if part:
            whole = name.replace(part[0], "")
            parts.setdefault(whole, {})[int(part[1])] = theirs
        else:
            named[name] = value
    for whole, names in parts.items():
        if names.keys() == {0, 1, 2}:
            named[whole] = torch.cat([state[names[i]] for i in range(3)])
        else:  # a damaged file: the report shall name what it holds and what is missing
            named |= {theirs: state[theirs] for theirs in names.values()}
    return named


def _name(theirs: str) -> str:
    """Ours; a part of a joined tensor is marked [0], [1] or [2]."""
    name = WRAPPED.sub("", theirs)
    name = name.replace(ENCODER + "swin.", ENCODER).replace(ENCODER + "model.", ENCODER)
    return renamed(name, TABLE, to_ours=True)
