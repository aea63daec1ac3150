"""Quantisation after training, on images of one's own: the one door to NNCF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from segcore.errors import ConfigError
from segcore.export import onnx_file, openvino_file
from segcore.export.facts import Facts

Inputs = tuple[np.ndarray, np.ndarray]  # pixels, sizes


def quantise(path: Path, images: Sequence[Inputs], facts: Facts) -> None:
    """An exported file in int8, in its own place.

    Args:
        path: of OpenVINO or ONNX.
        images: what the ranges of activations are taken from.
    """
    door, named = (onnx_file, True) if path.suffix == ".onnx" else (openvino_file, False)
    with TemporaryDirectory(dir=path.parent) as folder:  # a loaded model may read on in its file
        door.save(_quantised(door.load(path), images, named=named), Path(folder) / path.name, facts)
        for file in Path(folder).iterdir():
            os.replace(file, path.with_name(file.name))


def library() -> Any:
    """NNCF; ConfigError where it is not installed."""
    try:
        import nncf
    except ModuleNotFoundError:
        raise ConfigError(
            "--int8 needs NNCF, which is not installed: pip install 'segcore[export,int8]'"
        ) from None
    return nncf


def _quantised(model: Any, images: Sequence[Inputs], *, named: bool) -> Any:
    nncf = library()

    def as_input(pair: Inputs) -> Any:
        return {"pixels": pair[0], "sizes": pair[1]} if named else list(pair)

    return nncf.quantize(
        model,
        nncf.Dataset(images, as_input),
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
    )
