"""Checkpoints from strangers, read without executing anything."""

from __future__ import annotations

import argparse
import io
import logging
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from segcore.engine.locate import INDEX, locate, read_index
from segcore.errors import WeightsError

logger = logging.getLogger(__name__)


def _storage(content: bytes) -> Any:
    """A tensor's memory inside a plain pickle; torch's own function for it would run code."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class _Dtype:
    """Stands in for numpy.dtype, whose own state could be made to corrupt memory."""

    def __init__(self, text: str, *_: Any) -> None:
        if not re.fullmatch(r"[<>|=]?(b1|[iufc]\d{1,2}|\?)", text):
            raise ValueError(f"arrays of {text!r} are no weights")
        self.value = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for numpy.ndarray: made of numbers only, its size checked against its bytes."""

    def __new__(cls, shape: Any = (0,), dtype: str = "u1", buffer: Any = b"") -> _Array:
        return _numbers(buffer, _Dtype(dtype)).reshape(shape).view(cls)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        content = content.encode("latin1") if isinstance(content, str) else bytes(content)
        super().__setstate__((1, tuple(shape), dtype.value, fortran, content))


def _numbers(buffer: Any, dtype: _Dtype) -> np.ndarray:
    buffer = buffer.encode("latin1") if isinstance(buffer, str) else buffer
    return np.frombuffer(buffer, dtype.value).copy()


def _blank(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, content: Any) -> Any:
    return _numbers(content, dtype)[0]


def _shaped(buffer: Any, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    return _numbers(buffer, dtype).reshape(shape, order=order)  # type: ignore[call-overload]


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    return str(text).encode(encoding)


NUMPY: dict[str, Any] = {"numpy.ndarray": _Array, "numpy.dtype": _Dtype}
NUMPY |= {
    f"numpy.{core}.{name}": stand_in
    for core in ("core", "_core")  # before and since NumPy 2
    for name, stand_in in (
        ("multiarray._reconstruct", _blank),
        ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _shaped),
    )
}
HARMLESS: dict[str, Any] = NUMPY | {  # all that a pickle may name: values, nothing that acts
    "collections.OrderedDict": OrderedDict,
    "argparse.Namespace": argparse.Namespace,
    "_codecs.encode": _encode,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": import_module("torch._utils")._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": import_module("torch._utils")._rebuild_parameter,
}
HARMLESS |= {
    f"{module}.{kind.__name__}": kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset, slice, complex, bytearray, list, dict, tuple, int, float, bool)
}
SAFE: list[Any] = [  # for torch's own reader, which knows tensors and containers already
    *((stand_in, name) for name, stand_in in NUMPY.items()),
    (_encode, "_codecs.encode"),
    argparse.Namespace,
]
DAMAGE = (  # all that broken files made the readers raise when 20,000 of them were tried
    OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, RuntimeError,
    ImportError, ArithmeticError, AssertionError, MemoryError, SystemError, NameError,
    struct.error, zlib.error, zipfile.BadZipFile, SafetensorError,
)  # fmt: skip


Inside = tuple[tuple[str, ...], Mapping[Any, Any]]  # where a mapping is, and the mapping
AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema")
KNOWN = (  # what people call the weights in their files, the best first
    "model", "state_dict", "model_state_dict", "model_state", "module", "network", "net", "weights",
    "blobs",  # Caffe2's
    *AVERAGES,
)  # fmt: skip
NO_WEIGHTS = {"optimizer", "optimizer_states", "lr_schedulers", "scheduler", "callbacks", "trainer"}
DEPTH = 3  # of mappings in mappings


class _Unpickler(pickle.Unpickler):
    """Knows arrays, tensors and containers; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        known = HARMLESS.get(f"{module}.{name}")
        if known is None and module == "torch":
            known = getattr(torch, name, None)
            known = known if isinstance(known, torch.dtype) else None
        if known is None:
            raise _refusal(f"{module}.{name}")
        return known


def _refusal(wanted: str) -> WeightsError:
    return WeightsError(
        f"it asks to run {wanted}, which no weights need; it was not executed. If you trust where"
        " the file comes from, save its state dict alone (a dictionary of tensors)"
    )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """{"model": {name: tensor}, ...} of a .pkl, .pth, .bin or .safetensors file; executes nothing.

    Args:
        path: whatever `locate` finds a file for.
    """
    file = locate(str(path))
    if file.name.endswith(INDEX):
        return {"model": _read_parts(file)}
    try:
        content = _read(file)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise WeightsError(f"{file}: {_refusal(wanted[1])}") from None
        raise _not_one(file, error) from error
    except DAMAGE as error:
        raise _not_one(file, error) from error
    if not isinstance(content, Mapping):
        raise _not_one(file, "it holds no dictionary")
    place, state = _weights_in(content)
    ours = "ema_updates" in content  # `trained_weights` chooses
    if other := [n for n in AVERAGES if n in content and n not in place and not ours]:
        logger.info("%s: %s is taken; it holds %s too", file, ".".join(place), ", ".join(other))
    about = dict(content) if place else {}
    if not _is_ours(about.get("metadata")):
        about.pop("metadata", None)
    return about | {"model": tensors(state)}


def trained_weights(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint is used for: the averaged weights where a run of ours wrote both.

    Args:
        content: of `read_checkpoint`.
    """
    if "ema_updates" in content and isinstance(content.get("model_ema"), Mapping):
        logger.info("the averaged weights (EMA) are taken, not those of the last step")
        return content["model_ema"]
    return content["model"]


def _is_ours(metadata: object) -> bool:
    """Whether it is what a `Metadata` was; others write there what they like."""
    needed = {"name", "classes", "dataset_ids", "is_thing", "colors"}
    return isinstance(metadata, Mapping) and needed <= metadata.keys()


def _weights_in(content: Mapping[Any, Any], place: tuple[str, ...] = ()) -> Inside:
    """The mapping of tensors inside, and where: under a known name, else the one that has most."""
    for key in KNOWN:
        inner = content.get(key)
        if isinstance(inner, Mapping) and len(place) < DEPTH:
            found = _weights_in(inner, (*place, key))
            if _count(found[1]):
                return found
    inside: list[Inside] = [(place, content)]
    for key, inner in content.items():
        if isinstance(inner, Mapping) and len(place) < DEPTH and key not in NO_WEIGHTS:
            inside.append(_weights_in(inner, (*place, str(key))))
    return max(inside, key=lambda found: _count(found[1]))


def _count(state: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, Tensor | np.ndarray | np.generic) for value in state.values())


def _read_parts(index: Path) -> dict[str, Tensor]:
    """The state dict of a model whose tensors are in several files, beside their index."""
    names, state = read_index(index), {}
    for name in sorted(set(names.values())):
        state |= read_checkpoint(index.with_name(name))["model"]
    if missing := sorted(names.keys() - state.keys()):
        raise WeightsError(
            f"{index}: {len(missing)} tensors are in none of its files ({', '.join(missing[:3])});"
            " index and files are not of the same model; download them again"
        )
    return state


def _not_one(file: Path, error: object) -> WeightsError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    if reason.startswith("Weights only load failed"):  # torch's advice would be to run the file
        reason = "its inside is no pickle of tensors"
    start = b""
    if file.is_file():
        with file.open("rb") as stream:
            start = stream.read(64).lstrip()
        reason += f"; {file.stat().st_size} bytes"
    if start.startswith(b"version https://git-lfs"):
        reason = "a Git LFS pointer, not the file itself; run `git lfs pull`"
    elif start.startswith(b"<"):
        reason = "a web page, not the file that it links to"
    return WeightsError(
        f"{file}: not a checkpoint that can be read ({reason}); expected a whole .pkl, .pth or"
        " .safetensors file; download or copy it again"
    )


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return load_file(file)
    if zipfile.is_zipfile(file) or file.suffix in (".pth", ".pt", ".pyth", ".bin"):
        with torch.serialization.safe_globals(SAFE):
            return torch.load(file, map_location="cpu", weights_only=True)
    with file.open("rb") as stream:
        return _Unpickler(stream, encoding="latin1").load()


def tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The arrays and tensors of a state dict, as tensors; anything else is left out."""
    found = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            value = torch.as_tensor(np.array(value))
        if isinstance(value, Tensor):
            found[str(name)] = value.detach()
    return found
