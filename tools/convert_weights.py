"""Weights into the forms that configs name, and trained models back to official files.

python tools/convert_weights.py swin        swin_tiny_patch4_window7_224.pth  OUT.pkl
python tools/convert_weights.py torchvision resnet50-0676ba61.pth             R-50.pkl
python tools/convert_weights.py timm        model.safetensors                 OUT.pth
python tools/convert_weights.py official    output/model_final.pth            OUT.pkl
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask2former.weights import to_official, to_ours
from segcore.engine.weights import read_checkpoint
from segcore.errors import WeightsError


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ResNet -> detectron2's names."""
    found = {}
    for name, value in state.items():
        new = name if "layer" in name else f"stem.{name}"
        new = re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", new)
        new = re.sub(r"bn(\d)", r"conv\1.norm", new)
        new = new.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        found[new] = value
    return found


def official(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Official names, with the version metadata that the old loader asks for."""
    names = OrderedDict(to_official(to_ours(state)))
    versions: dict[str, dict[str, int]] = {"": {"version": 1}}
    versions |= {"sem_seg_head": {"version": 2}, "sem_seg_head.predictor": {"version": 2}}
    names._metadata = OrderedDict(versions)  # type: ignore[attr-defined]
    return names


def convert(kind: str, source: Path) -> dict[str, Any]:
    """What the file will hold."""
    state = read_checkpoint(source)["model"]
    if kind == "swin":
        return {"model": state, "__author__": "third_party", "matching_heuristics": True}
    if kind == "torchvision":
        arrays = {k: v.numpy() for k, v in torchvision_names(state).items()}
        return {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
    if kind == "timm":
        return {"model": dict(state), "__author__": "timm", "matching_heuristics": True}
    return {"model": official(state), "__author__": "segcore"}


def write(content: dict[str, Any], goal: Path) -> None:
    """Whole or not at all; .pkl holds arrays, as detectron2's files do."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    temporary = goal.with_name(goal.name + ".tmp")
    if goal.suffix == ".pkl":
        model = content["model"]
        for name, value in list(model.items()):
            model[name] = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        with temporary.open("wb") as stream:
            pickle.dump(content, stream)
    else:
        torch.save(content, temporary)
    os.replace(temporary, goal)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("swin", "torchvision", "timm", "official"))
    parser.add_argument("source", type=Path)
    parser.add_argument("goal", type=Path)
    args = parser.parse_args()
    try:
        written = convert(args.kind, args.source)
    except WeightsError as problem:
        sys.exit(f"error: {problem}")
    write(written, args.goal)
    print(f"{args.goal}: {len(written['model'])} tensors; name it in MODEL.WEIGHTS")
