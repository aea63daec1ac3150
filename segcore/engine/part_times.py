"""How long each part of a model takes."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import nn


def timed_parts(model: nn.Module, run: Callable[[], object], repeat: int) -> dict[str, float]:
    """Median milliseconds of the model's direct children, and of the whole, over `repeat` runs."""
    spent: dict[str, list[float]] = defaultdict(list)
    begun: dict[str, float] = {}
    hooks = []

    def before(name: str) -> Callable[..., None]:
        return lambda *_: begun.__setitem__(name, clock())

    def after(name: str) -> Callable[..., None]:
        return lambda *_: spent[name].append(clock() - begun[name])

    for name, child in model.named_children():
        hooks += [child.register_forward_pre_hook(before(name))]
        hooks += [child.register_forward_hook(after(name))]
    run()
    spent.clear()
    for _ in range(repeat):
        start = clock()
        run()
        spent["whole model"].append(clock() - start)
    for hook in hooks:
        hook.remove()
    return {name: statistics.median(times) * 1000 for name, times in spent.items()}


def clock() -> float:
    """Seconds, when the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gflops(device: torch.device) -> float:
    """GFLOP/s of a large product of float32 matrices: what no network here can exceed."""
    left, right = torch.randn(2, 4096, 4096, device=device)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * 4096**3 / best / 1e9
