"""Torch's own two formats: TorchScript, and programs of torch.export."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from segcore.export.facts import Facts, Wanted
from segcore.export.graph import Graph, exportable
from segcore.export.opened import Opened

FACTS = "segcore.json"  # a file inside the file


def write_script(
    graph: Graph, wanted: Wanted, example: tuple[Tensor, Tensor], path: Path, facts: Facts
) -> None:
    """The graph, traced at the example's size."""
    with exportable(graph, wanted), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a fixed size makes constant
        script: Any = torch.jit.trace(graph, example, check_trace=False)
        torch.jit.save(script, str(path), _extra_files={FACTS: json.dumps(facts)})


def write_program(program: ExportedProgram, path: Path, facts: Facts) -> None:
    """The program; one with our sampling operator needs segcore where it is loaded."""
    torch.export.save(program, path, extra_files={FACTS: json.dumps(facts)})


def read_script(path: Path) -> Opened:
    """The file in torch, on the CPU."""
    files = {FACTS: ""}
    return _opened(torch.jit.load(str(path), map_location="cpu", _extra_files=files), files)


def read_program(path: Path) -> Opened:
    """The file in torch, on the CPU."""
    files = {FACTS: ""}
    return _opened(torch.export.load(path, extra_files=files).module(), files)


def _opened(module: Any, files: dict[str, Any]) -> Opened:
    facts = json.loads(files[FACTS])

    def run(pixels: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            values = module(torch.from_numpy(pixels), torch.from_numpy(sizes))
        return {n: v.numpy() for n, v in zip(facts["outputs"], values, strict=True)}

    return Opened(facts, run, f"torch {torch.__version__}")
