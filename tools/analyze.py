"""What a model costs: parameters, FLOPs and time, by part.

python tools/analyze.py --config-file configs/....yaml [--size 800 1216] [--opts KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcore.errors import ConfigError, DataError, WeightsError
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Record


def timed_parts(model: nn.Module, run: Callable[[], object], repeat: int) -> dict[str, float]:
    """Median milliseconds of the model's direct children, and of the whole, over `repeat` runs."""
    spent: dict[str, list[float]] = defaultdict(list)
    begun: dict[str, float] = {}
    hooks = []

    def before(name: str) -> Callable[..., None]:
        return lambda *_: begun.__setitem__(name, _now())

    def after(name: str) -> Callable[..., None]:
        return lambda *_: spent[name].append(_now() - begun[name])

    for name, child in model.named_children():
        hooks += [child.register_forward_pre_hook(before(name))]
        hooks += [child.register_forward_hook(after(name))]
    run()
    spent.clear()
    for _ in range(repeat):
        start = _now()
        run()
        spent["whole model"].append(_now() - start)
    for hook in hooks:
        hook.remove()
    return {name: statistics.median(times) * 1000 for name, times in spent.items()}


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main(args: argparse.Namespace) -> None:
    predictor = Predictor(args.config_file, "", args.opts)
    model, (height, width) = predictor.task.model, args.size
    record = Record("analyze", (height, width), (Frame(file=args.config_file),))
    images = torch.randint(0, 256, (1, 1, 3, height, width), dtype=torch.uint8)
    sizes = torch.tensor([[[height, width]]])
    boxes = torch.tensor([[[0, 0, width, height]]])
    batch = Batch(images.to(predictor.device), sizes, boxes, [], [record])

    with torch.inference_mode():
        with FlopCounterMode(model, display=False, depth=2) as counter:
            outputs = model(batch.images, batch.sizes)
        times = timed_parts(model, lambda: model(batch.images, batch.sizes), args.repeat)
        start = _now()
        predictor.task.postprocess(outputs, batch)
        times["postprocess"] = (_now() - start) * 1000

    flops = {name.split(".")[-1]: sum(c.values()) for name, c in counter.get_flop_counts().items()}
    table = Table("part", "parameters, M", "GFLOP", "ms", title=f"{height}x{width}")
    for name, child in model.named_children():
        count = sum(p.numel() for p in child.parameters()) / 1e6
        gflop = flops.get(name, 0) / 1e9
        table.add_row(name, f"{count:.2f}", f"{gflop:.1f}", f"{times.get(name, 0):.0f}")
    count = sum(p.numel() for p in model.parameters()) / 1e6
    total = counter.get_total_flops() / 1e9
    table.add_row("whole model", f"{count:.2f}", f"{total:.1f}", f"{times['whole model']:.0f}")
    table.add_row("postprocess", "", "", f"{times['postprocess']:.0f}")
    Console().print(table)
    print("GFLOP: multiply-adds x 2 of matrix products and convolutions; sampling is not counted")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1216), metavar=("H", "W"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")
    try:
        main(parser.parse_args())
    except (ConfigError, DataError, WeightsError) as problem:
        raise SystemExit(f"error: {problem}") from None
