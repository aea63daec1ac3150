"""Run a task over a data set and measure its results."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from segcore.contracts import Evaluator, Task
from segcore.engine.log import console
from segcore.engine.ranks import of_all_ranks, on_first_rank, raise_together
from segcore.errors import DataError
from segcore.structures import Batch, Record, Result

logger = logging.getLogger(__name__)

CHUNK = 256  # parts of a rank that travel at once
PERIOD = 30.0  # seconds between two lines of progress where there is no terminal


def evaluate(
    task: Task,
    loader: Iterable[Batch],
    evaluators: list[Evaluator],
    fabric: Fabric,
    *,
    save_result: Callable[[Result, Record], None] | None = None,
    infer: Callable[[Batch], list[Result]] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Metrics of all evaluators, on rank 0; {} elsewhere. One image is held at a time.

    Args:
        save_result: called with every result, to write it somewhere.
        infer: how a batch becomes results, where it is not the model's plain answer.
        stop: asked after each batch; where any rank's says so, there are no metrics: None.
    """

    def plain(batch: Batch) -> list[Result]:
        return task.postprocess(task.infer(batch, fabric.device), batch)

    def update(batch: Batch) -> None:
        for result, record in zip((infer or plain)(batch), batch.records, strict=True):
            for evaluator in evaluators:
                evaluator.update(result, record)
            if save_result:
                save_result(result, record)

    training, problem, stopped = task.model.training, None, False
    task.model.eval()
    try:
        with torch.inference_mode():
            for batch in _with_progress(loader, fabric):
                update(batch)
                if stopped := stop():
                    break
    except DataError as error:
        problem = error
    task.model.train(training)
    raise_together(problem, fabric)
    if any(of_all_ranks(stopped, fabric)):
        return None
    return _metrics(evaluators, fabric)


def _metrics(evaluators: list[Evaluator], fabric: Fabric) -> dict[str, float]:
    """Everybody's parts to rank 0, and what its evaluators make of them; {} elsewhere."""
    for evaluator in evaluators:
        evaluator.parts = _gathered(evaluator.parts, fabric)
    return on_first_rank(lambda: _computed(evaluators), fabric) or {}


def _computed(evaluators: list[Evaluator]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for evaluator in evaluators:
        computed = evaluator.compute()
        if twice := metrics.keys() & computed.keys():
            raise ValueError(f"two evaluators give {sorted(twice)}; one of them must rename")
        metrics |= computed
    return metrics


def _with_progress(loader: Iterable[Batch], fabric: Fabric) -> Iterator[Batch]:
    """The batches, with a progress bar on rank 0's terminal, or a line now and then in a log."""
    total = len(loader) if isinstance(loader, Sized) else None
    shown = fabric.is_global_zero and sys.stdout.isatty()
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = logged = time.perf_counter()
    with Progress(*columns, console=console(), disable=not shown, transient=True) as progress:
        bar = progress.add_task("", total=total)
        for done, batch in enumerate(loader, 1):
            yield batch
            progress.advance(bar)
            now = time.perf_counter()
            if not shown and now - logged > PERIOD:
                logged, each = now, (now - start) / done
                left = timedelta(seconds=int(each * (total - done))) if total else "unknown"
                logger.info("evaluated %d/%s  eta %s  %.3f s/batch", done, total, left, each)


def _gathered(parts: list[Any], fabric: Fabric) -> list[Any]:
    """All ranks' parts, in rank order, on rank 0; a few at a time, so that no copy is large."""
    if fabric.world_size == 1:
        return parts
    lengths: list[int] = [0] * fabric.world_size
    dist.all_gather_object(lengths, len(parts))
    ranks: list[list[Any]] = [[] for _ in lengths]
    for start in range(0, max(lengths), CHUNK):
        piece: list[Any] | None = [None] * len(lengths) if fabric.is_global_zero else None
        dist.gather_object(parts[start : start + CHUNK], piece)
        for rank, more in zip(ranks, piece or [], strict=False):
            rank += more
    return [part for rank in ranks for part in rank]
