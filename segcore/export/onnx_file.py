"""ONNX: the one door to its libraries."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from segcore.errors import ConfigError
from segcore.export.facts import INPUTS, Facts, from_strings, to_strings
from segcore.export.opened import Opened

OPSET = 20  # ONNX 1.15, of 2023


def require() -> None:
    """ConfigError where what writes and runs such files is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing(error) from None


def write(program: ExportedProgram, path: Path, facts: Facts) -> None:
    """The program as an ONNX file; weights beyond 2 GB go into files beside it."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # a line for every operator
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=facts["outputs"],
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigError(
            f"--to onnx: an operator of this model is not in ONNX: {error}"
        ) from error
    assert made is not None
    made.model.metadata_props.update(to_strings(facts))
    made.save(str(path))


def load(path: Path) -> Any:
    """The file as the package onnx has it."""
    import onnx

    return onnx.load(str(path))


def save(model: Any, path: Path, facts: Facts) -> None:
    """A model of the package onnx, with its facts."""
    import onnx

    onnx.helper.set_model_props(model, to_strings(facts))
    onnx.save(model, str(path))


def read(path: Path) -> Opened:
    """The file in ONNX Runtime, on the CPU, with as many threads as torch has."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing(error) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    facts = from_strings(session.get_modelmeta().custom_metadata_map)

    def run(pixels: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        values: list[Any] = list(session.run(None, {"pixels": pixels, "sizes": sizes}))
        return dict(zip(facts["outputs"], values, strict=True))

    return Opened(facts, run, f"onnxruntime {onnxruntime.__version__}")


def missing(error: ModuleNotFoundError) -> ConfigError:
    """What to install."""
    return ConfigError(f"{error.name} is not installed: pip install 'segcore[export]'")
