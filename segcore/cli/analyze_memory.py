"""What the worst batches of a config's data sets take, before a training finds it out.

Each part runs in a process of its own, so that the peak of one is not that of another.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from segcore.build import data, solver
from segcore.build.evaluators import build_windowed
from segcore.build.task import build_for_training, build_task
from segcore.cli.worst_batches import (
    INFERENCE,
    STEP,
    Peak,
    in_order,
    inference,
    out_of_memory,
    peak_of,
    resident_mb,
    worst_parts,
)
from segcore.cli.worst_images import Images, drawn_batch
from segcore.config import Config, load_config
from segcore.contracts import Task
from segcore.engine.device import choose_device
from segcore.engine.launch import Fabric, launch
from segcore.engine.trainer import Trainer
from segcore.structures import Batch

Run = Callable[[Config, Task, Batch, Fabric], float]  # gives its seconds

FULL = 0.9  # share of the memory from which on it is too little
ADVICE = {
    STEP: "lower SOLVER.IMS_PER_BATCH, or raise SOLVER.ACCUMULATE; then MODEL.BACKBONE."
    "USE_CHECKPOINT true; then lower INPUT.MAX_SIZE_TRAIN or INPUT.CROP.SIZE",
    INFERENCE: "lower TEST.BATCH_SIZE, INPUT.MIN_SIZE_TEST or INPUT.MAX_SIZE_TEST; TEST.WINDOW for"
    " videos",
}


def main(
    *,
    config_file: str,
    opts: Sequence[str],
    num_gpus: int,
    runs: Mapping[str, Run] | None = None,
) -> int:
    """Print the peaks of a training step and an inference; 1 where one does not fit.

    Args:
        num_gpus: ranks that share SOLVER.IMS_PER_BATCH.
        runs: of each part; None: its own.
    """
    runs = runs or RUNS
    cfg = in_order(load_config(config_file, opts))
    device = choose_device(cfg.MODEL.DEVICE)
    gpu = device.type == "cuda"
    if not gpu:
        print("no GPU is used: memory and seconds are those of the CPU")
    table = Table("part", "images", "batch", "peak, MB", "reserved, MB", "of, MB", "seconds")
    if not gpu:
        table.columns[4].header = "whole process, MB"
    notes, status = [], 0
    catalog = data.catalog(cfg)
    task = build_for_training(cfg, data.train_metadata(cfg, catalog))
    for part, images in worst_parts(cfg, task, catalog, num_gpus):
        shape, peak = measured_alone(part, images, config_file, opts, runs[part])
        if peak is None:
            table.add_row(part, str(images), shape, "does not fit")
            notes.append(f"{part} of {images} ({shape}): out of memory; {ADVICE[part]}")
            status = 1
            continue
        numbers = (peak.taken, peak.reserved, peak.total)
        table.add_row(
            part, str(images), shape, *(f"{x:.0f}" for x in numbers), f"{peak.seconds:.2f}"
        )
        if peak.share > FULL:
            notes.append(f"{part}: takes {peak.share:.0%} of the memory; {ADVICE[part]}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    return status


def measured_alone(
    part: str, images: Images, config_file: str, opts: Sequence[str], run: Run
) -> tuple[str, Peak | None]:
    """The shape of the batch, and its peak; None where memory was too little."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    args = (part, images, config_file, opts, run, theirs)
    process = context.Process(target=_measure, args=args)
    process.start()
    theirs.close()
    shape, peak = "", None
    try:
        shape = ours.recv()
        peak = ours.recv()
    except EOFError:  # it has ended before
        process.join()
        if process.exitcode not in (-signal.SIGKILL, 0):  # by the system, or caught
            raise RuntimeError(f"the {part} of {images} failed; see above") from None
    process.join()
    return shape, peak


def _measure(
    part: str, images: Images, config_file: str, opts: Sequence[str], run: Run, pipe: Connection
) -> None:
    """The shape goes into the pipe, then the Peak, or nothing where memory is too little."""
    cfg = in_order(load_config(config_file, opts))
    fabric = launch(device=cfg.MODEL.DEVICE, precision=solver.precision(cfg))
    before = resident_mb()
    try:
        task = build_task(cfg)
        with TemporaryDirectory() as folder:
            batch = drawn_batch(task, images, Path(folder), train=part == STEP)
        pipe.send("x".join(map(str, batch.images.shape)))
        seconds = run(cfg, task, batch, fabric)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return
    pipe.send(peak_of(fabric.device, before, seconds))


def _step(cfg: Config, task: Task, batch: Batch, fabric: Fabric) -> float:
    """Seconds of the second step: after the first one the optimizer has its state."""
    optimizer, schedule = solver.build_optimizer(cfg, task)
    accumulate = cfg.SOLVER.ACCUMULATE
    clip = solver.clipping(cfg)
    trainer = Trainer(task, optimizer, schedule, fabric, clipping=clip, accumulate=accumulate)
    trainer.model.train()
    trainer.step([batch] * accumulate)
    start = time.perf_counter()
    trainer.step([batch] * accumulate)["grad_norm"].item()  # which waits for a GPU
    return time.perf_counter() - start


def _inference(cfg: Config, task: Task, batch: Batch, fabric: Fabric) -> float:
    return inference(task, batch, fabric.device, build_windowed(cfg, task, fabric))


RUNS: dict[str, Run] = {STEP: _step, INFERENCE: _inference}
