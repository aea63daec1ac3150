"""Weights into the forms that configs name, and trained models back to official files."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask2former.weights import to_official, to_ours
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.errors import WeightsError
from segcore.whole_file import whole_file


def main(*, kind: str, source: str | Path, goal: Path) -> int:
    """Convert one file; `kind` says what it holds."""
    content = convert(kind, source)
    write(content, goal)
    print(f"{goal}: {len(content['model'])} tensors; name it in MODEL.WEIGHTS")
    return 0


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet -> detectron2's names."""
    renamed = {}
    for name, value in state.items():
        new = name if "layer" in name else f"stem.{name}"
        new = re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", new)
        new = re.sub(r"bn(\d)", r"conv\1.norm", new)
        new = new.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        renamed[new] = value
    return renamed


def official(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Official names, with the version metadata that the old loader asks for."""
    names = OrderedDict(to_official(to_ours(state)))
    versions: dict[str, dict[str, int]] = {"": {"version": 1}}
    versions |= {"sem_seg_head": {"version": 2}, "sem_seg_head.predictor": {"version": 2}}
    names._metadata = OrderedDict(versions)  # type: ignore[attr-defined]
    return names


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's ResNet and Swin -> the names of the old repository; other networks as they are."""
    if "layer1.0.conv1.weight" in state:
        return torchvision_names(state)
    if "layers.3.downsample.reduction.weight" in state:
        return {timm_swin_name(name): value for name, value in state.items()}
    return dict(state)


CLASSES = re.compile(r"^criterion\.empty_weight$|^sem_seg_head\.predictor\.class_embed\.")

FORMER = re.compile(r"^(module\.)*(sem_seg_head|(decoder\.)?decoder\.query_feat)\.")
MARKS = {  # one name that every file of the kind holds
    "swin": "layers.0.downsample.reduction.weight",  # timm's has it in the next stage
    "torchvision": "layer1.0.conv1.weight",
}  # timm has networks of every kind

BACKBONES: dict[str, tuple[Callable[[Mapping[str, Tensor]], dict[str, Tensor]], str]] = {
    "swin": (dict, "third_party"),
    "torchvision": (torchvision_names, "torchvision"),
    "timm": (timm_names, "timm"),
}


def convert(kind: str, source: str | Path) -> dict[str, Any]:
    """What the file will hold."""
    state = read_checkpoint(source)["model"]
    if kind in BACKBONES:
        check_kind(kind, state, source)
        names, author = BACKBONES[kind]
        return {"model": names(state), "__author__": author, "matching_heuristics": True}
    named = official(state)
    if "criterion.empty_weight" not in named:
        raise WeightsError(
            f"{source}: holds no Mask2Former of ours, the old repository or Hugging Face (no class"
            " head); for a bare backbone say swin, torchvision or timm instead of official"
        )
    if kind == "entity":
        other = named["criterion.empty_weight"].shape[0] != 2
        for name in [k for k in named if other and CLASSES.search(k)]:
            del named[name]
    return {"model": named, "__author__": "segcore"}


def check_kind(kind: str, state: Mapping[str, Tensor], source: str | Path) -> None:
    """WeightsError where the file is no backbone of this kind."""
    mark = MARKS.get(kind)
    whole = any(FORMER.match(name) for name in state)
    if state and not whole and (mark is None or mark in state):
        return
    bare = "say what it is: swin (Microsoft's names), torchvision (a ResNet) or timm"
    raise WeightsError(
        f"{source}: is no backbone of the kind {kind}: it holds"
        f" {', '.join(list(state)[:3]) or 'no tensor'} ...; expected"
        f" {mark or 'a network alone'}; {'for a whole model say official' if whole else bare}"
    )


class _Portable(pickle.Pickler):
    """Arrays as calls of numpy.ndarray, which every version of NumPy can read."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            return np.ndarray, (obj.shape, obj.dtype.str, bytearray(obj.tobytes()))
        return NotImplemented


def _plain(value: Tensor) -> Tensor:
    """NumPy has no bfloat16."""
    return value.float() if value.dtype == torch.bfloat16 else value


def write(content: dict[str, Any], goal: Path) -> None:
    """Whole or not at all; .pkl holds arrays, as detectron2's files do."""
    with whole_file(goal) as stream:
        if goal.suffix == ".pkl":
            model = content["model"]
            for name, value in list(model.items()):
                model[name] = _plain(value).numpy()
            _Portable(stream, protocol=4).dump(content)
        else:
            torch.save(content, stream)
