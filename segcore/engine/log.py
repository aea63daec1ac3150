"""What a run writes down: a progress line, log.txt, metrics.json (JSON lines), and what
`segcore.engine.loggers` lists."""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from segcore.engine.loggers import open_logger
from segcore.engine.metrics_file import METRICS
from segcore.errors import ConfigError

logger = logging.getLogger(__name__)

FORMAT, DATE = "%(asctime)s %(message)s", "%m-%d %H:%M:%S"


@cache
def console() -> Console:
    """The terminal: log lines and progress lines share it, so that neither tears the other."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)


class _ConsoleHandler(logging.Handler):
    """Log lines above whatever progress line is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        console().print(self.format(record))


def set_up(folder: Path | None, rank: int = 0) -> None:
    """Messages to the terminal, and to `folder`/log.txt; other ranks keep to warnings."""
    live = rank == 0 and sys.stdout.isatty()
    handlers: list[logging.Handler] = [
        _ConsoleHandler() if live else logging.StreamHandler(sys.stdout)
    ]
    if folder is not None and rank == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(folder / "log.txt", encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"OUTPUT_DIR {folder}: cannot be written ({error}); expected a folder, or the name"
                " of one that can be made"
            ) from None
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=FORMAT,
        datefmt=DATE,
        handlers=handlers,
        force=True,
    )


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class RunLog:
    """Rank 0's record of a training run.

    Args:
        folder: OUTPUT_DIR.
        stop: the last iteration.
        loggers: names of LOGGERS that get the numbers of metrics.json too.
    """

    def __init__(self, folder: Path, stop: int, loggers: Sequence[str] = ("tensorboard",)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.stop = stop
        self.file = folder / METRICS
        _end_last_line(self.file)
        self.loggers = [open_logger(name, folder) for name in loggers]
        self.since = time.perf_counter()
        self.data_time, self.steps = 0.0, 0
        self.failed = False
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        shown = sys.stdout.isatty()
        self.progress = Progress(
            *columns, TimeElapsedColumn(), console=console(), disable=not shown, transient=True
        )
        self.bar = self.progress.add_task("", total=stop)

    def step(
        self,
        iteration: int,
        losses: dict[str, float] | None,
        *,
        rate: float,
        data_time: float,
        device: torch.device,
    ) -> None:
        """Count one iteration; with `losses` (and perhaps `grad_norm`), write an entry."""
        self.progress.start()
        self.steps += 1
        self.data_time += data_time
        if losses is None:
            self.progress.update(self.bar, completed=iteration)
            return
        each = (time.perf_counter() - self.since) / self.steps
        left = each * (self.stop - iteration)
        entry = {
            "iteration": iteration,
            "total_loss": sum(v for k, v in losses.items() if k != "grad_norm"),
            "lr": rate,
            "time": each,
            "data_time": self.data_time / self.steps,
            "eta_seconds": left,
            "max_mem_mb": memory_mb(device),
        }
        self.write(entry | losses, iteration)
        heads = {k: v for k, v in losses.items() if k != "grad_norm" and not k[-1].isdigit()}
        times = f"{each:.3f} s/it (data {entry['data_time']:.3f})"
        eta = timedelta(seconds=int(left))
        logger.info(
            "%d/%d  eta %s  loss %.3f (%s)  lr %.2e  %s  mem %.0f MB",
            iteration,
            self.stop,
            eta,
            entry["total_loss"],
            " ".join(f"{k.removeprefix('loss_')} {v:.3f}" for k, v in heads.items()),
            rate,
            times,
            entry["max_mem_mb"],
        )
        about = f"eta {eta}  loss {entry['total_loss']:.3f}  {times}  {entry['max_mem_mb']:.0f} MB"
        self.progress.update(self.bar, completed=iteration, description=about)
        self.rest()

    def rest(self) -> None:
        """Start timing anew: what came between two steps was not one."""
        self.since, self.steps, self.data_time = time.perf_counter(), 0, 0.0

    def write(self, entry: dict[str, float], iteration: int) -> None:
        """One line of metrics.json, and the same numbers for all loggers."""
        plain = {k: v if math.isfinite(v) else None for k, v in entry.items()}
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(plain) + "\n")
            for log in self.loggers:
                log.write({k: v for k, v in entry.items() if k != "iteration"}, iteration)
        except OSError as error:  # a full disk: hours of training are worth more than a curve
            if not self.failed:
                logger.warning("%s cannot be written (%s); training goes on", self.file, error)
            self.failed = True

    def pause(self) -> None:
        """Take the progress line away, for another one."""
        self.progress.stop()

    def close(self) -> None:
        """Flush all loggers."""
        self.progress.stop()
        for log in self.loggers:
            log.close()


def _end_last_line(path: Path) -> None:
    """A run that was killed may have left half a line: the next one begins below it."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            stream.write(b"\n")
