"""What a model costs: parameters, FLOPs and time, by part.

Legend of one-letter names: T views of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcore.engine.part_times import clock, timed_parts
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Record, Sample


def main(*, config_file: str, opts: Sequence[str], size: tuple[int, int], repeat: int) -> int:
    """Print a table of the parts of a random model.

    Args:
        size: height and width of the image, and of each view.
        repeat: runs; the median counts.
    """
    # plain layers: packed ones have no parameters, and torch's counter does not know them
    predictor = Predictor(config_file, "", [*opts, "TEST.PREPARE", "false"])
    model = predictor.task.model
    model.requires_grad_(False)  # torch's counter hooks into the graph of what has gradients
    batch = noise(predictor, *size)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            outputs = model(batch.images, batch.sizes, aux=False)
        times = timed_parts(model, lambda: model(batch.images, batch.sizes, aux=False), repeat)
        start = clock()
        predictor.task.postprocess(outputs, batch)
        times["postprocess"] = (clock() - start) * 1000
    T, (height, width) = batch.images.shape[1], size
    title = f"{height}x{width}" + (f", {T} views of this size" if T > 1 else "")
    Console().print(costs(model, counter, times, title))
    print("GFLOP: multiply-adds x 2 of matrix products and convolutions; sampling is not counted")
    return 0


def costs(model: nn.Module, counter: FlopCounterMode, times: dict[str, float], title: str) -> Table:
    """One row a part, then the whole.

    Args:
        times: milliseconds by part, of the "whole model" and of "postprocess".
    """
    flops = {name: sum(c.values()) for name, c in counter.get_flop_counts().items()}
    table = Table("part", "parameters, M", "GFLOP", "ms", title=title)
    for name, child in model.named_children():
        count = sum(p.numel() for p in child.parameters()) / 1e6
        gflop = flops.get(f"{type(model).__name__}.{name}", 0) / 1e9
        table.add_row(name, f"{count:.2f}", f"{gflop:.1f}", f"{times.get(name, 0):.0f}")
    count = sum(p.numel() for p in model.parameters()) / 1e6
    total = counter.get_total_flops() / 1e9
    table.add_row("whole model", f"{count:.2f}", f"{total:.1f}", f"{times['whole model']:.0f}")
    table.add_row("postprocess", "", "", f"{times['postprocess']:.0f}")
    return table


def noise(predictor: Predictor, height: int, width: int) -> Batch:
    """One image of noise, with as many views as the config looks at; each is (height, width)."""
    record = Record("analyze", (height, width), (Frame(Path("noise")),))
    seen = predictor.task.views.test(np.zeros((height, width, 3), np.uint8), record)
    views = torch.randint(0, 256, (len(seen.views), 3, height, width), dtype=torch.uint8)
    sizes = torch.tensor([[height, width]]).expand(len(views), 2)
    return Batch.collate([Sample(views, sizes, seen.boxes, None, record)]).to(predictor.device)
