"""Whether an exported file says what the model says, and by how much it differs.

A model with masked attention decides for each cell by the sign of a logit whether a query reads it.
Where one lies within rounding of zero, two runtimes decide differently, and what follows differs
by more than rounding. That is no fault of a file: so nine of ten values are held to the bound, the
rest to a wider one, and another image of the size is tried.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.errors import ConfigError
from segcore.export.facts import Wanted
from segcore.export.graph import Graph, drawn_input
from segcore.export.opened import Opened
from segcore.structures import Size
from segcore.whole_file import whole_file

BOUND = 1e-4  # of a difference, as a share of the largest value where that is above 1
USUAL = 0.9  # share of the values that are held to it
WIDER = 100  # times the bound: what none may differ by
RAW = ("logits", "masks")  # what is held to it: results jump where a value crosses a threshold
TRIES = 3  # images of a size, until one is within the bound


@dataclass(frozen=True, slots=True)
class Compared:
    """One image that went through both.

    Args:
        row: its shape, and of each output how it differs, for people.
        arrays: pixels, sizes and what the model said.
        within: whether it differs by no more than the bounds.
    """

    row: dict[str, Any]
    arrays: dict[str, np.ndarray]
    within: bool


def compare(
    opened: Opened, graph: Graph, wanted: Wanted, sizes: Sequence[Size], tries: int = TRIES
) -> list[Compared]:
    """Drawn images of each size, until one is within the bounds."""
    compared: list[Compared] = []
    for size in sizes:
        for seed in range(tries):
            compared.append(_compared(opened, graph, wanted, size, seed))
            if compared[-1].within:
                break
    return compared


def _compared(opened: Opened, graph: Graph, wanted: Wanted, size: Size, seed: int) -> Compared:
    pixels, sizes = drawn_input(wanted, size, seed)
    with torch.no_grad():
        ours = {name: value.numpy() for name, value in graph.named(pixels, sizes).items()}
    there = opened.run(pixels.numpy(), sizes.numpy())
    differences = {name: largest_difference(there[name], value) for name, value in ours.items()}
    usual = {name: largest_difference(there[name], ours[name], USUAL) for name in RAW}
    largest = {name: float(np.abs(ours[name]).max()) for name in RAW}
    row = {
        "shape": list(pixels.shape),
        "seed": seed,
        "differences": differences,
        "nine_of_ten": usual,
        "largest": largest,
        "bound": {name: BOUND * max(1.0, largest[name]) for name in RAW},
        "runtime": opened.runtime,
        "torch": torch.__version__,
    }
    within = all(usual[name] <= row["bound"][name] >= differences[name] / WIDER for name in RAW)
    return Compared(row, {"pixels": pixels.numpy(), "sizes": sizes.numpy(), **ours}, within)


def refuse_difference(compared: Sequence[Compared], file: Path) -> None:
    """ConfigError where the logits of all images of a size are not the model's."""
    well = [one.row["shape"] for one in compared if one.within]
    for one in compared:
        if one.row["shape"] not in well:
            most, usual, bound = (
                ", ".join(f"{name} {one.row[key][name]:.2g}" for name in RAW)
                for key in ("differences", "nine_of_ten", "bound")
            )
            raise ConfigError(
                f"{file}: what {one.row['runtime']} makes of it differs from the model by up to"
                f" {most} on images of shape {one.row['shape']}, nine of ten values by up to"
                f" {usual}; expected of nine of ten at most {bound}, of all {WIDER} times that;"
                " nothing was written"
            )


def write(file: Path, compared: Sequence[Compared]) -> None:
    """<file>.parity.npz, what went in and what the model said, and <file>.parity.jsonl, the rows.

    Args:
        file: the exported one.
    """
    named = {f"{name}_{i}": x for i, one in enumerate(compared) for name, x in one.arrays.items()}
    with whole_file(file.with_name(file.name + ".parity.npz")) as stream:
        np.savez_compressed(stream, **named)  # type: ignore[arg-type]
    with whole_file(file.with_name(file.name + ".parity.jsonl"), "w") as stream:
        stream.writelines(json.dumps(one.row) + "\n" for one in compared)


def largest_difference(there: np.ndarray, ours: np.ndarray, share: float = 1.0) -> float:
    """The largest of floats, or of this share of them; of other types how many differ, as a share.

    Infinite for other shapes.
    """
    if there.shape != ours.shape:
        return float("inf")
    if ours.dtype.kind != "f":
        return float((there != ours).mean())
    return float(np.quantile(np.abs(there.astype(np.float64) - ours), share))
