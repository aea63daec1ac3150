"""What the worst batches of a config's data sets take, before a training finds it out.

Each part runs in a process of its own, so that the peak of one is not that of another.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from segcore.build import data, solver
from segcore.build.evaluators import build_windowed
from segcore.build.task import build_for_training, build_task
from segcore.cli.worst_images import Images, drawn_batch, worst_tests, worst_train
from segcore.config import Config, load_config
from segcore.contracts import Task
from segcore.data.store import Records
from segcore.engine.device import choose_device
from segcore.engine.launch import Fabric, launch
from segcore.engine.log import memory_mb
from segcore.engine.trainer import Trainer
from segcore.errors import ConfigError
from segcore.structures import Batch

Run = Callable[[Config, Task, Batch, Fabric], float]  # gives its seconds

FULL = 0.9  # share of the memory from which on it is too little
STEP, INFERENCE = "training step", "inference"
ADVICE = {
    STEP: "lower SOLVER.IMS_PER_BATCH, or raise SOLVER.ACCUMULATE; then MODEL.BACKBONE."
    "USE_CHECKPOINT true; then lower INPUT.MAX_SIZE_TRAIN or INPUT.CROP.SIZE",
    INFERENCE: "lower TEST.BATCH_SIZE, INPUT.MIN_SIZE_TEST or INPUT.MAX_SIZE_TEST; TEST.WINDOW for"
    " videos",
}


@dataclass(frozen=True, slots=True)
class Peak:
    """What one part took; sizes in MB."""

    taken: float  # by tensors; on the CPU what the process grew by
    reserved: float  # on the CPU: of the whole process
    total: float  # that the device has
    seconds: float

    @property
    def share(self) -> float:
        """Of the device's memory."""
        return self.reserved / self.total


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
    cfg = _config(config_file, opts)
    device = choose_device(cfg.MODEL.DEVICE)
    gpu = device.type == "cuda"
    if not gpu:
        print("no GPU is used: memory and seconds are those of the CPU")
    table = Table("part", "images", "batch", "peak, MB", "reserved, MB", "of, MB", "seconds")
    if not gpu:
        table.columns[4].header = "whole process, MB"
    notes, status = [], 0
    for part, images in worst_parts(cfg, num_gpus):
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


def worst_parts(cfg: Config, num_gpus: int) -> list[tuple[str, Images]]:
    """What is run: a step on the worst training batch, inferences on the worst test images."""
    catalog = data.catalog(cfg)
    task = build_for_training(cfg, data.train_metadata(cfg, catalog))
    if "patch" in task.makes:
        raise ConfigError(
            f"{cfg.MODEL.META_ARCHITECTURE} sees patches of one size, whatever the images are:"
            " --memory is for models of whole images"
        )
    parts = []
    if cfg.DATASETS.TRAIN:
        count, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, num_gpus * cfg.SOLVER.ACCUMULATE)
        if rest:
            raise ConfigError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}: expected a multiple of"
                f" --num-gpus {num_gpus} x SOLVER.ACCUMULATE {cfg.SOLVER.ACCUMULATE}"
            )
        records = data.train_records(cfg, task, catalog)
        parts.append((STEP, worst_train(cfg, task, records, count)))
    if cfg.DATASETS.TEST:
        tests = [
            catalog.records(name, data.test_metadata(task, catalog, name))
            for name in cfg.DATASETS.TEST
        ]
        parts += [(INFERENCE, images) for images in worst_tests(cfg, task, Records.join(tests))]
    return parts


def _config(config_file: str, opts: Sequence[str]) -> Config:
    """With the sizes of training in order: the last one, which `Largest` draws, is the largest."""
    cfg = load_config(config_file, opts)
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    sizes = sizes if isinstance(sizes, int) else sorted(sizes)
    return replace(cfg, INPUT=replace(cfg.INPUT, MIN_SIZE_TRAIN=sizes))


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
    cfg = _config(config_file, opts)
    fabric = launch(device=cfg.MODEL.DEVICE, precision=solver.precision(cfg))
    before = _resident_mb()
    try:
        task = build_task(cfg)
        with TemporaryDirectory() as folder:
            batch = drawn_batch(task, images, Path(folder), train=part == STEP)
        pipe.send("x".join(map(str, batch.images.shape)))
        seconds = run(cfg, task, batch, fabric)
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "can't allocate memory" not in str(error):  # torch's words on the CPU
            raise
        return
    pipe.send(_peak(fabric.device, before, seconds))


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
    """Seconds of one batch, results and all."""
    task.model.to(fabric.device).eval()
    windowed = build_windowed(cfg, task, fabric)
    start = time.perf_counter()
    with torch.inference_mode():
        if windowed:
            windowed(batch)
        else:
            task.postprocess(task.infer(batch, fabric.device), batch)
    return time.perf_counter() - start


RUNS: dict[str, Run] = {STEP: _step, INFERENCE: _inference}


def _peak(device: torch.device, before: float, seconds: float) -> Peak:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 2**20
        reserved = torch.cuda.max_memory_reserved(device) / 2**20
        return Peak(memory_mb(device), reserved, total, seconds)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Peak(_resident_mb() - before, _resident_mb(), total, seconds)


def _resident_mb() -> float:
    """Peak of this process; Linux's ru_maxrss has in it that of the process that started it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else memory_mb(torch.device("cpu"))
