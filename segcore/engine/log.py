"""What a run tells: a progress line, log.txt, metrics.json (JSON lines) and TensorBoard."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)


def set_up(folder: Path | None, rank: int = 0) -> None:
    """Messages to the terminal, and to `folder`/log.txt; other ranks keep to warnings."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if folder is not None and rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder / "log.txt"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%m-%d %H:%M:%S",
        handlers=handlers,
        force=True,
    )


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


class RunLog:
    """Rank 0's record of a training run.

    Args:
        folder: OUTPUT_DIR.
        period: iterations between two entries.
    """

    def __init__(self, folder: Path, stop: int, period: int = 20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stop, self.period = stop, period
        self.file = folder / "metrics.json"
        self.board = SummaryWriter(str(folder))
        self.since, self.first = time.perf_counter(), -1
        self.data_time, self.steps = 0.0, 0

    def step(
        self,
        iteration: int,
        losses: dict[str, float] | None,
        *,
        rate: float,
        data_time: float,
        device: torch.device,
    ) -> None:
        """Count one iteration; with `losses`, write an entry."""
        self.steps += 1
        self.data_time += data_time
        if losses is None:
            return
        each = (time.perf_counter() - self.since) / self.steps
        left = each * (self.stop - iteration)
        entry = {
            "iteration": iteration,
            "total_loss": sum(losses.values()),
            "lr": rate,
            "time": each,
            "data_time": self.data_time / self.steps,
            "eta_seconds": left,
            "max_mem_mb": memory_mb(device),
        }
        self.write(entry | losses, iteration)
        heads = {k: v for k, v in losses.items() if not k[-1].isdigit()}
        logger.info(
            "%d/%d  eta %s  loss %.3f (%s)  lr %.2e  %.3f s/it (data %.3f)  mem %.0f MB",
            iteration,
            self.stop,
            timedelta(seconds=int(left)),
            entry["total_loss"],
            " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in heads.items()),
            rate,
            each,
            entry["data_time"],
            entry["max_mem_mb"],
        )
        self.since, self.steps, self.data_time = time.perf_counter(), 0, 0.0

    def write(self, entry: dict[str, float], iteration: int) -> None:
        """One line of metrics.json, and the same numbers for TensorBoard."""
        with self.file.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")
        for name, value in entry.items():
            if name != "iteration":
                self.board.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Flush TensorBoard."""
        self.board.close()
