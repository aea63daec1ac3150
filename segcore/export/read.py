"""Which runtime an exported file is for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from segcore.errors import WeightsError
from segcore.export import onnx_file, openvino_file, torch_file
from segcore.export.opened import Opened

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".ts", "torch-export": ".pt2"}
READERS: dict[str, Callable[[Path], Opened]] = {
    ".onnx": onnx_file.read,
    ".xml": openvino_file.read,
    ".ts": torch_file.read_script,
    ".pt2": torch_file.read_program,
}


def is_exported(path: str | Path) -> bool:
    """Whether its name is that of an exported file."""
    return Path(path).suffix in READERS


def read_exported(path: Path, *, bf16: bool = False) -> Opened:
    """The file in its runtime; WeightsError where `segcore export` has not written it.

    Args:
        bf16: OpenVINO computes in it; the other runtimes compute as the file says.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; expected one of `segcore export`")
    reader = READERS[path.suffix]
    if bf16 and path.suffix == SUFFIXES["openvino"]:
        reader = partial(openvino_file.read, precision="bf16")
    opened = reader(path)
    if "outputs" not in opened.facts:
        raise WeightsError(f"{path}: it lacks what `segcore export` writes of a model")
    return opened
