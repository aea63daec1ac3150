"""A bare backbone under anybody's names -> a model's own names, by whole exact names only.

ResNets of torchvision, timm and detectron2, Swin as published and as timm renamed it, and any
network of timm. Of these readings the one that explains most of the model's tensors is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

PREFIX = "backbone."


def backbone_state(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors under the model's names; those without a place keep their own names."""
    wanted = {k.removeprefix(PREFIX): v for k, v in own.items() if k.startswith(PREFIX)}
    bare = {re.sub(r"^(module\.|backbone\.)+", "", k): v for k, v in given.items()}
    best = max(
        ({name: read(name) for name in bare} for read in readings(wanted, bare)),
        key=lambda names: len(wanted.keys() & set(names.values())),
    )
    if len(wanted.keys() & set(best.values())) * 2 < len(wanted):
        best = in_order(wanted, bare)
    return {
        PREFIX + best[name] if best.get(name) in wanted else name: value
        for name, value in bare.items()
    }


def readings(wanted: Iterable[str], given: Iterable[str]) -> list[Callable[[str], str]]:
    """Ways to read a name, as functions from theirs to the model's."""
    wanted, given = set(wanted), set(given)
    ahead = any(k.startswith("layers.3.downsample.") for k in given)  # timm's Swin, not Microsoft's
    return [
        lambda name: timm_swin_name(name) if ahead else name,
        resnet_name,
        lambda name: next((c for c in timm_candidates(name) if c in wanted), name),
    ]


def timm_candidates(name: str) -> tuple[str, ...]:
    """Where timm's feature extractors keep a tensor: `stages.0.` may have become `stages_0.`."""
    return f"body.{name}", f"body.{name.replace('.', '_', 1)}", f"body.model.{name}"


def timm_swin_name(name: str) -> str:
    """timm has each downsampling at the start of the next stage."""
    return re.sub(
        r"^layers\.(\d)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample.", name
    )


def resnet_name(name: str) -> str:
    """res2.0.conv1.norm.weight, layer1.0.bn1.weight ... -> layers.0.0.bn1.weight"""
    name = re.sub(r"^stem\.conv1\.norm\.", "bn1.", name)
    name = re.sub(r"^stem\.", "", name)
    match = re.match(r"(res|layer)(\d)\.(.*)", name)
    if not match:
        return name
    stage = int(match[2]) - (2 if match[1] == "res" else 1)
    rest = re.sub(r"^(\d+)\.shortcut\.norm\.", r"\1.downsample.1.", match[3])
    rest = re.sub(r"^(\d+)\.shortcut\.", r"\1.downsample.0.", rest)
    rest = re.sub(r"conv(\d)\.norm\.", r"bn\1.", rest)
    return f"layers.{stage}.{rest}"


def in_order(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """The same network under other names: one to one in order, if every shape agrees."""
    pairs = list(zip(wanted.items(), given.items(), strict=False))
    if len(pairs) < len(wanted) or any(a.shape != b.shape for (_, a), (_, b) in pairs):
        return {}
    return {theirs: ours for (ours, _), (theirs, _) in pairs}
