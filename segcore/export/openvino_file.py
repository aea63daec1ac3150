"""OpenVINO: the one door to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import get_num_threads

from segcore.errors import ConfigError
from segcore.export.facts import PREFIX, Facts, from_strings, to_strings
from segcore.export.onnx_file import missing
from segcore.export.opened import Opened

SECTION = PREFIX.rstrip(".")  # of the runtime's own information


def library() -> Any:
    """The package; ConfigError where it is not installed."""
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise missing(error) from None
    return openvino


def write(source: Path, path: Path, facts: Facts) -> None:
    """An ONNX file as OpenVINO's .xml, with its .bin beside it; ConfigError where it cannot."""
    openvino = library()
    try:
        model = openvino.convert_model(str(source))
    except openvino.frontend.OpConversionFailure as error:
        raise ConfigError(
            f"--to openvino: it cannot convert this model; try --to onnx: {error}"
        ) from error
    save(model, path, facts)


def load(path: Path) -> Any:
    """The file as OpenVINO has it."""
    return library().Core().read_model(str(path))


def save(model: Any, path: Path, facts: Facts) -> None:
    """A model of OpenVINO's, in fp32, with its facts."""
    for name, value in to_strings(facts).items():
        model.set_rt_info(value, [SECTION, name.removeprefix(PREFIX)])
    library().save_model(model, str(path), compress_to_fp16=False)


def read(path: Path, *, precision: str = "f32") -> Opened:
    """The file in OpenVINO's runtime, on the CPU, with as many threads as torch has.

    Args:
        precision: "f32" or "bf16", as OpenVINO calls what it computes in.
    """
    openvino = library()
    core = openvino.Core()
    model = core.read_model(str(path))
    noted = model.get_rt_info()
    section = noted[SECTION] if SECTION in noted else {}  # noqa: SIM401  (no dict)
    facts = from_strings({PREFIX + name: section[name].astype(str) for name in section})
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": get_num_threads()}
    compiled = _compiled(core, model, hints)

    def run(pixels: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        values = compiled([pixels, sizes])
        return {name: values[i].copy() for i, name in enumerate(facts["outputs"])}

    version = openvino.__version__.split("-")[0]  # without its build
    return Opened(facts, run, f"openvino {version}")


def _compiled(core: Any, model: Any, hints: dict[str, Any]) -> Any:
    """The model for the CPU, loaded in a thread of its own.

    OpenVINO's plugin gives the thread that loads it another stack for signals. Of two plugins, the
    one that is gone last leaves the thread the freed stack of the first (2026.4), so that the next
    signal, be it Ctrl-C, kills the process. A thread that ends with the call leaves nothing.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(core.compile_model, model, "CPU", hints).result()
