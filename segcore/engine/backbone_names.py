"""A bare backbone under anybody's names -> a model's own names, by whole exact names only.

ResNets of torchvision, timm and detectron2, Swin as published and as timm renamed it, EfficientNet
under the names of its first port to PyTorch, and any network of timm. Nothing is taken because its
shape would fit. Of these readings the one that explains most of the model's tensors is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

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
        EfficientNetNames(wanted, given),
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


class EfficientNetNames:
    """`_blocks.5._project_conv.weight` -> timm's `blocks.3.0.conv_pwl.weight`, below the model's.

    The first port numbers blocks through all stages; where a stage begins is seen in the model.

    Args:
        wanted, given: the model's names and theirs.
    """

    OUTSIDE: ClassVar = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head",
                         "_bn1": "bn2", "_fc": "classifier"}  # fmt: skip
    WIDENED: ClassVar = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
                         "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    NARROW: ClassVar = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw",
                        "_bn2": "bn2"}  # fmt: skip
    SQUEEZE: ClassVar = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}

    def __init__(self, wanted: set[str], given: set[str]) -> None:
        found = (re.search(r"blocks\.(\d+)\.(\d+)\.", name) for name in wanted)
        places = sorted({(int(m[1]), int(m[2])) for m in found if m})
        self.wanted, self.blocks = wanted, dict(enumerate(places))
        widened = (re.match(r"_blocks\.(\d+)\._expand_conv\.", name) for name in given)
        self.widened = {int(m[1]) for m in widened if m}

    def __call__(self, name: str) -> str:
        """Ours; the name itself where it is none of theirs."""
        match = re.match(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(.+)", name)
        if not match:
            return name
        number, layer, rest = match.groups()
        if number is None:
            theirs = f"{self.OUTSIDE.get(layer, layer)}.{rest}"
        elif (place := self.blocks.get(int(number))) is None:
            return name
        else:
            names = (self.WIDENED if int(number) in self.widened else self.NARROW) | self.SQUEEZE
            theirs = f"blocks.{place[0]}.{place[1]}.{names.get(layer, layer)}.{rest}"
        return next((c for c in timm_candidates(theirs) if c in self.wanted), name)
