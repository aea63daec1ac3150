"""Weights into the forms that configs name, and trained models back to official files."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cropformer import weights as crop_names
from mask2former import weights as former_names
from segcore.build.task import load_task
from segcore.config import config_from_dict, load_config
from segcore.contracts import Task
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.checkpoint_reader import read_checkpoint, trained_weights
from segcore.engine.weights import load_into_task, load_weights
from segcore.engine.wrapped_names import unwrapped
from segcore.errors import WeightsError
from segcore.nn.backbones import ResNet
from segcore.nn.swin import Swin
from segcore.whole_file import whole_file


def main(*, kind: str, source: str | Path, goal: Path, config_file: str | None) -> int:
    """Convert one file, and load what was written.

    Args:
        kind: what it holds.
        config_file: that the model was trained with; None: the one that the file carries, if any.
    """
    given = read_checkpoint(source)
    task = task_of(given, source, config_file) if kind == "official" else None
    content = converted(kind, trained_weights(given), source, task)
    write(content, goal)
    how = check_written(goal, content, task)
    print(f"{goal}: {len(content['model'])} tensors, {how}; name it in MODEL.WEIGHTS")
    return 0


def task_of(given: Mapping[str, Any], source: str | Path, config_file: str | None) -> Task | None:
    """The model of a config, the given one or that in the checkpoint, with the weights, complete.

    None without a config. WeightsError where the weights are not the whole of it.
    """
    if config_file:
        cfg = load_config(config_file)
    elif isinstance(stored := given.get("config"), dict):
        cfg = config_from_dict(stored)
    else:
        return None
    try:
        return load_task(cfg, given, device=torch.device("cpu"))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None


def check_written(goal: Path, content: Mapping[str, Any], task: Task | None) -> str:
    """Load what was written; how that was done, in words. WeightsError where it is not the same."""
    wanted, found = content["model"], read_checkpoint(goal)["model"]
    wrong = wanted.keys() ^ found.keys()
    wrong |= {k for k in wanted.keys() & found.keys() if not same(wanted[k], found[k])}
    model, how = task.model if task else None, "read back"
    if task and model:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        load_into_task(task, goal, complete=True)
        wrong |= {k for k, v in model.state_dict().items() if not same(v, before[k])}
        how = f"loaded into {type(model).__name__} and equal"
    elif model := backbone_of(wanted):
        report = load_weights(model, goal, dict)
        wrong |= {k for k in report.reinitialised if not FEATURE_NORM.match(k)}
        how = f"loaded into {type(model.backbone).__name__}"
    if wrong:
        raise WeightsError(
            f"{goal}: {len(wrong)} tensors are not there as they should be"
            f" ({', '.join(sorted(wrong)[:3])}); the file is of no use: is the source whole, and"
            " the disk in order?"
        )
    return how


def same(one: Any, other: Any) -> bool:
    """Whether two tensors or arrays are equal, but for what NumPy has no type for."""
    one, other = (_plain(torch.as_tensor(value)) for value in (one, other))
    return torch.equal(one, other)


def backbone_of(state: Mapping[str, Any]) -> nn.Module | None:
    """A network of the sizes that its weights have; None where they are no ResNet's nor Swin's."""
    if "patch_embed.proj.weight" in state and "layers.0.downsample.reduction.weight" in state:
        tables = [f"layers.{i}.blocks.0.attn.relative_position_bias_table" for i in range(4)]
        if not all(name in state for name in tables):
            return None
        depths = [len({k.split(".")[3] for k in state if k.startswith(f"layers.{i}.blocks.")})
                  for i in range(4)]  # fmt: skip
        network: nn.Module = Swin(
            embed_dim=len(state["patch_embed.proj.weight"]),
            depths=tuple(depths),
            num_heads=tuple(state[name].shape[1] for name in tables),
            window_size=(round(len(state[tables[0]]) ** 0.5) + 1) // 2,
        )
    else:
        blocks = {k.split(".")[1] for k in state if k.startswith("res4.")}
        depth = {6: 50, 23: 101, 36: 152}.get(len(blocks))
        if depth is None or "res4.0.conv3.weight" not in state:
            return None
        network = ResNet(depth)
    return nn.ModuleDict({"backbone": network})


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
    """Official names of a Mask2Former or a CropFormer, which its content says."""
    crops = any(name.startswith(FUSION) for name in state)
    names = crop_names if crops else former_names
    return with_versions(names.to_official(names.to_ours(state)))


def with_versions(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """With the metadata that the old loader of Mask2Former asks for."""
    names = OrderedDict(state)
    if any(name.startswith("sem_seg_head.") for name in names):
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


FUSION = ("sem_seg_head.predictor.make_3d.", "decoder.fusion.")  # CropFormer's
CONSTANTS = ("criterion.empty_weight", "criterion_2d.empty_weight")  # where a class head is
FEATURE_NORM = re.compile(r"backbone\.norm\d\.")  # of feature maps: ImageNet's networks lack it
CLASSES = re.compile(r"^criterion(_[23]d)?\.empty_weight$|^sem_seg_head\.predictor\.class_embed\.")

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
    return converted(kind, trained_weights(read_checkpoint(source)), source)


def converted(
    kind: str, state: Mapping[str, Tensor], source: str | Path, task: Task | None = None
) -> dict[str, Any]:
    """What the file will hold.

    Args:
        state: the weights in the source.
        task: its model, with them; None: names say that it is a Mask2Former or a CropFormer.
    """
    if kind in BACKBONES:
        check_kind(kind, state, source)
        names, author = BACKBONES[kind]
        return {"model": names(state), "__author__": author, "matching_heuristics": True}
    if task:
        named = with_versions(task.official(task.model.state_dict()))
        return {"model": named, "__author__": "segcore"}
    forms = (official(inner) for inner in unwrapped(state))
    named = next((form for form in forms if any(name in form for name in CONSTANTS)), None)
    if named is None:
        raise WeightsError(
            f"{source}: holds no Mask2Former of ours, the old repository or Hugging Face (no class"
            " head); for a bare backbone say swin, torchvision or timm instead of official; for"
            " another model give the config that it was trained with (--config-file)"
        )
    if kind == "entity":
        head = named["sem_seg_head.predictor.class_embed.bias"]
        for name in [k for k in named if len(head) != 2 and CLASSES.search(k)]:
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
            model = copy(content["model"])  # with its versions
            for name, value in list(model.items()):
                model[name] = _plain(value).numpy()
            _Portable(stream, protocol=4).dump(content | {"model": model})
        else:
            torch.save(content, stream)
