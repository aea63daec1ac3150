"""A trained patch network from its file, ready to refine masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from maskrefine.bpr import PatchRefiner
from maskrefine.hrnet import VARIANTS, PatchNetwork, Variant
from maskrefine.patch_training import to_official, to_ours
from maskrefine.patches import PATCH_SIZE
from segcore.contracts import MaskRefiner
from segcore.engine.checkpoint_reader import read_checkpoint, trained_weights
from segcore.engine.wrapped_names import best_reading
from segcore.errors import WeightsError

MARK = "backbone.conv_mask.weight"  # what reads the coarse mask: no other network has it
WIDTH = "backbone.transition1.0.0.weight"  # its rows are the channels of the finest branch


def build_mask_refiner(
    weights: str | Path,
    *,
    iou_threshold: float = 0.25,
    numerics: str = "batch",
    prepare: bool = False,
    **options: Any,
) -> MaskRefiner:
    """A function from an image and its masks to better masks.

    Args:
        iou_threshold, numerics: of `PatchRefiner.refine_rles`.
        prepare: the network's weights are packed, where it is on a CPU.
        options: of `load_patch_refiner`.
    """
    refiner = load_patch_refiner(weights, **options)
    refiner = refiner.pack() if prepare else refiner
    return partial(refiner.refine_rles, iou_threshold=iou_threshold, numerics=numerics)


def load_patch_refiner(
    weights: str | Path,
    *,
    device: torch.device,
    batch_size: int | None = None,
    precision: torch.dtype = torch.float32,
    least_area: int = 0,
) -> PatchRefiner:
    """A published checkpoint of boundary patch refinement, or one of ours.

    Which size it is, is seen from its tensors; sizes of patches come from the config that ours
    carry, else they are the published ones.

    Args:
        weights: whatever MODEL.WEIGHTS takes. WeightsError where it is no patch network's.
    """
    content = read_checkpoint(weights)
    readings = [lambda theirs: to_official(to_ours(theirs))]
    state = best_reading(trained_weights(content), readings, (MARK, WIDTH))
    variant = _variant(state, weights)
    settings = _settings(content)
    variant = replace(variant, input_size=settings.get("INPUT_SIZE", variant.input_size))
    network = PatchNetwork(variant)
    try:
        network.load_official(state)
    except WeightsError as error:
        raise WeightsError(f"{weights}: {error}") from None
    return PatchRefiner(
        network.to(device),
        patch_size=settings.get("PATCH_SIZE", PATCH_SIZE),
        precision=precision,
        batch_size=batch_size,
        least_area=least_area,
    )


def _variant(state: Mapping[str, Any], weights: str | Path) -> Variant:
    if MARK in state and WIDTH in state:
        width = len(state[WIDTH])
        for variant in VARIANTS.values():
            if variant.width == width:
                return variant
    raise WeightsError(
        f"{weights}: holds no network of boundary patches; it has {_some(list(state))} ...;"
        " expected weights of BPR, as `segcore train refine/bpr/hrnet18s_128.yaml` makes them"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) or "no tensor"


def _settings(content: Mapping[str, Any]) -> dict[str, int]:
    """MODEL.BPR of the config in a checkpoint of ours."""
    found: Any = content
    for key in ("config", "MODEL", "BPR"):
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return {k: v for k, v in found.items() if type(v) is int} if isinstance(found, Mapping) else {}
