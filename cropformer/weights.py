"""CropFormer's official names and ours: Mask2Former's, and the fusion layers'."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from mask2former import weights
from segcore.engine.renaming import renamed

OFFICIAL, OURS = "sem_seg_head.predictor.make_3d.", "decoder.fusion."
FUSION = [  # the spelling is theirs
    (OFFICIAL + official, OURS + ours)
    for official, ours in (
        ("enc_crosattn_3d.{}.multihead_attn.", "{}.cross_attn."),
        ("enc_crosattn_3d.{}.norm.", "{}.cross_norm."),
        ("enc_selfattn_3d.{}.self_attn.", "{}.self_attn."),
        ("enc_selfattn_3d.{}.norm.", "{}.self_norm."),
        ("enc_ffn_3d.{}.norm.", "{}.ffn_norm."),
        ("enc_ffn_3d.{}.", "{}."),
    )
]
CONSTANTS = re.compile(r"^criterion_[23]d\.empty_weight$")


def _fusion(name: str, to_ours: bool) -> str | None:
    """A fusion tensor's name on the other side; None if it is not one."""
    other = renamed(name, FUSION, to_ours=to_ours)
    return other if other != name else None


def to_ours(state: Mapping[str, Any]) -> dict[str, Any]:
    """Names of CropFormer, or of a Mask2Former to start from -> ours."""
    state = {re.sub(r"^(module\.)+", "", k): v for k, v in state.items()}
    fusion = {new: v for k, v in state.items() if (new := _fusion(k, True))}
    rest = {k: v for k, v in state.items() if not _fusion(k, True) and not CONSTANTS.match(k)}
    own = {k: v for k, v in rest.items() if k.startswith(("decoder.decoder.", OURS))}
    former = weights.to_ours({k: v for k, v in rest.items() if k not in own})
    inner = {re.sub(r"^decoder\.", "decoder.decoder.", k): v for k, v in former.items()}
    return inner | own | fusion


def to_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """Our names -> official ones, with the constant class weights of both criteria."""
    fusion = {new: v for k, v in state.items() if (new := _fusion(k, False))}
    rest = {
        re.sub(r"^decoder\.decoder\.", "decoder.", k): v
        for k, v in state.items()
        if not k.startswith(OURS)
    }
    out = weights.to_official(rest)
    empty = out.pop("criterion.empty_weight", None)
    constants = {f"criterion_{n}d.empty_weight": torch.clone(empty) for n in (2, 3)} if (
        empty is not None
    ) else {}  # fmt: skip
    return out | fusion | constants
