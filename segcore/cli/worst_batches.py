"""The worst batches of a config's data sets, and what a process took for them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segcore.build import data
from segcore.cli.worst_images import Images, worst_tests, worst_train
from segcore.config import Config
from segcore.contracts import Task
from segcore.data.catalog import Catalog
from segcore.data.store import Records
from segcore.engine.log import memory_mb
from segcore.errors import ConfigError
from segcore.structures import Batch
from segcore.windowed import WindowedInference

STEP, INFERENCE = "training step", "inference"


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


def worst_parts(
    cfg: Config, task: Task, catalog: Catalog, num_gpus: int
) -> list[tuple[str, Images]]:
    """What is run: a step on the worst training batch, inferences on the worst test images."""
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


def in_order(cfg: Config) -> Config:
    """With the sizes of training in order: the last one, which `Largest` draws, is the largest."""
    sizes = cfg.INPUT.MIN_SIZE_TRAIN
    sizes = sizes if isinstance(sizes, int) else sorted(sizes)
    return replace(cfg, INPUT=replace(cfg.INPUT, MIN_SIZE_TRAIN=sizes))


def inference(
    task: Task, batch: Batch, device: torch.device, windowed: WindowedInference | None
) -> float:
    """Seconds of one batch, results and all.

    Args:
        windowed: of videos that are seen in windows.
    """
    task.model.to(device).eval()
    start = time.perf_counter()
    with torch.inference_mode():
        if windowed:
            windowed(batch)
        else:
            task.postprocess(task.infer(batch, device), batch)
    return time.perf_counter() - start


def out_of_memory(error: Exception) -> bool:
    """Whether it says that there is too little."""
    full = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return full or "can't allocate memory" in str(error)  # torch's words on the CPU


def peak_of(device: torch.device, before: float = 0.0, seconds: float = 0.0) -> Peak:
    """Of this process until now.

    Args:
        before: MB that it had before the part.
        seconds: of the part.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / 2**20
        reserved = torch.cuda.max_memory_reserved(device) / 2**20
        return Peak(memory_mb(device), reserved, total, seconds)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Peak(resident_mb() - before, resident_mb(), total, seconds)


def resident_mb() -> float:
    """Peak of this process; Linux's ru_maxrss has in it that of the process that started it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else memory_mb(torch.device("cpu"))
