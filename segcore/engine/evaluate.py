"""Run a task over a data set and let evaluators look."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segcore.contracts import Evaluator, Task
from segcore.structures import Batch, Record, Result

logger = logging.getLogger(__name__)


def evaluate(
    task: Task,
    loader: Iterable[Batch],
    evaluators: list[Evaluator],
    fabric: Fabric,
    keep: Callable[[Result, Record], None] | None = None,
) -> dict[str, float]:
    """Metrics of all evaluators, on rank 0; {} elsewhere. One image is held at a time.

    Args:
        keep: called with every result, to write it somewhere.
    """
    training = task.model.training
    task.model.eval()
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = fabric.is_global_zero and sys.stdout.isatty()
    total = len(loader) if hasattr(loader, "__len__") else None  # type: ignore[arg-type]
    with torch.inference_mode(), Progress(*columns, disable=not shown) as progress:
        bar = progress.add_task("", total=total)
        for batch in loader:
            outputs = task.model(batch.images.to(fabric.device), batch.sizes, aux=False)
            for result, record in zip(task.postprocess(outputs, batch), batch.records, strict=True):
                for evaluator in evaluators:
                    evaluator.update(result, record)
                if keep:
                    keep(result, record)
            progress.advance(bar)
    task.model.train(training)
    metrics: dict[str, float] = {}
    for evaluator in evaluators:
        evaluator.parts = _gathered(evaluator.parts, fabric)
        if fabric.is_global_zero:
            found = evaluator.compute()
            if twice := metrics.keys() & found.keys():
                raise ValueError(f"two evaluators give {sorted(twice)}")
            metrics |= found
    return metrics


def _gathered(parts: list[Any], fabric: Fabric) -> list[Any]:
    """All ranks' parts, in rank order, on rank 0."""
    if fabric.world_size == 1:
        return parts
    everyone: list[Any] | None = [None] * fabric.world_size if fabric.is_global_zero else None
    dist.gather_object(parts, everyone)
    return [part for rank in everyone or [] for part in rank]
