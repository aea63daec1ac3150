"""Speed on this machine: one image through `Predictor`, one training step; the command.

Others that are installed run in turn with ours, so that ratios mean something on a noisy machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from segcore.cli.bench_job import CONFIG, Job, Run, device, in_own_process
from segcore.cli.bench_names import names_of
from segcore.engine.part_times import peak_gflops
from segcore.errors import ConfigError
from segcore.evaluation.writers import write_json
from segcore.structures import Size

HELP = [sys.executable, "-c", "from segcore.cli.main import main; main()", "--help"]
PACKAGES = ("segcore", "torch", "transformers", "onnxruntime", "openvino")
NOTES = """times ours: of the first row of its kind. CPU s: of all threads, median. Peak: of the
whole process, with loading and warming up. results: RLE, boxes and scores, or maps, through
Predictor; upsampled masks: logits of all queries at the image's size, and no results of them."""
IMAGE_PARTS = "the rest (reading, results)"
STEP_PARTS = "the rest (losses, backward, update)"


@dataclass(kw_only=True)
class Row:
    """One contender: seconds and CPU seconds of each run, MB at its peak, shares of its parts."""

    name: str
    ready: float = 0.0
    runs: list[Run] = field(default_factory=list)
    peak: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    failed: bool = False


def main(
    *,
    config_file: str | None,
    opts: Sequence[str],
    only: Sequence[str],
    size: Size,
    step_size: int,
    repeat: int,
    threads: int,
    json: Path | None,
) -> int:
    """Print what was measured; 1 where a contender failed.

    Args:
        only: words, of which a contender's name has one; (): all.
        size: height and width of the image.
        step_size: height and width of the training step's image.
        repeat: runs of each; the median counts.
        threads: of each process; 0 leaves it to torch.
        json: a file for all numbers.
    """
    if threads:
        torch.set_num_threads(threads)
    job = Job(config_file or CONFIG, tuple(opts), size, step_size, torch.get_num_threads())
    names, lacking = names_of(job.cfg(), on_cpu=device().type == "cpu")
    chosen = [x for x in names if not only or any(word in x for word in only)]
    if not chosen:
        raise ConfigError(f"--only {' '.join(only)}: expected a part of {'; '.join(names)}")
    rows: list[Row] = []
    for kind in ("image", "step"):
        rows += in_turn([x for x in chosen if x.startswith(kind)], job, repeat)
    if "segcore --help" in chosen:
        rows.append(Row(name="segcore --help", runs=help_runs(repeat)))
    sizes = {"image": f"{size[0]}x{size[1]}", "step": f"{step_size}x{step_size}"}
    Console(width=120).print(table_of(rows, sizes))
    print(NOTES)
    print_parts(rows)
    facts = {
        "config": str(job.config),
        "opts": list(opts),
        "sizes": sizes,
        "repeat": repeat,
    } | machine()
    print("; ".join(f"{key}: {value}" for key, value in facts.items() if value != []))
    for line in lacking:
        print(line)
    if json:
        write_json(json, facts | {"rows": [vars(row) for row in rows]})
    return int(any(row.failed for row in rows))


def in_turn(names: Sequence[str], job: Job, repeat: int) -> list[Row]:
    """A row of each; each in a process of its own, as its users run it, one run after the other."""
    rows, pipes = [Row(name=name) for name in names], {}
    with TemporaryDirectory(prefix="segcore-bench") as folder:
        say = Console(stderr=True)
        for row in rows:
            start = time.perf_counter()
            say.print(f"{row.name}: loads and warms up", highlight=False)
            pipe = started(row.name, job, folder)
            row.failed = pipe is None or received(pipe) is None
            row.ready = time.perf_counter() - start
            if pipe and not row.failed:
                pipes[row.name] = pipe
        for i in range(repeat):
            if pipes:
                say.print(f"all in turn: run {i + 1} of {repeat}", highlight=False)
            for row in rows:
                if row.name in pipes and not row.failed:
                    measure(row, pipes[row.name])
        for row in rows:
            if row.name in pipes and not row.failed:
                row.peak, row.parts = received(pipes[row.name], "end") or (0.0, {})
    return rows


def measure(row: Row, pipe: Connection) -> None:
    """One run more."""
    spent = received(pipe, "run")
    row.failed = spent is None
    if spent is not None:
        row.runs.append(spent)


def started(name: str, job: Job, folder: str) -> Connection | None:
    """The pipe to a contender's process; None where what it runs could not be exported."""
    spawn = get_context("spawn")
    if job.exported_to(name, folder):
        export = spawn.Process(target=in_own_process, args=("write_exported", name, job, folder))
        export.start()
        export.join()
        if export.exitcode:
            return None
    ours, theirs = Pipe()
    given = ("contender", name, job, folder, theirs)
    spawn.Process(target=in_own_process, args=given, daemon=True).start()
    theirs.close()
    return ours


def received(pipe: Connection, order: str = "") -> Any:
    """What the process says to an order; None where it ended instead, and has said why."""
    try:
        if order:
            pipe.send(order)
        return pipe.recv()
    except (EOFError, ConnectionResetError, BrokenPipeError):
        return None


def table_of(rows: Sequence[Row], sizes: dict[str, str]) -> Table:
    """Each contender's line, beside the first of its kind.

    Args:
        sizes: of "image" and "step", as text.
    """
    heads = ("what", "who", "ends with", "seconds, median", "min", "max", "times ours")
    table, first = Table(*heads, "CPU s", "peak, MB"), {}
    for row in rows:
        what, _, who = row.name.rpartition(": ")
        size, end = sizes.get(what, ""), ends_with(what, who)
        if row.failed or not row.runs:
            table.add_row(f"{what} {size}", who, end, "failed, see above")
            continue
        wall, cpu = zip(*row.runs, strict=True)
        median = statistics.median(wall)
        ratio = f"{median / first.setdefault(what, median):.2f}x"
        numbers = [f"{x:.2f}" for x in (median, min(wall), max(wall))]
        spent = f"{statistics.median(cpu):.2f}" if any(cpu) else ""
        peak = f"{row.peak:.0f}" if row.peak else ""
        table.add_row(f"{what} {size}", who, end, *numbers, ratio, spent, peak)
    return table


def ends_with(what: str, who: str) -> str:
    """Where a contender's time ends."""
    if what == "image":
        return "upsampled masks" if who.startswith("transformers") else "results"
    return "new weights" if what == "step" else ""


def print_parts(rows: Sequence[Row]) -> None:
    """Shares of a run in percent, of those that were looked into."""
    for row in rows:
        if row.parts:
            whole = row.parts["whole model"]
            shares = {k: v / whole for k, v in row.parts.items() if k != "whole model"}
            rest = IMAGE_PARTS if row.name.startswith("image") else STEP_PARTS
            shares[rest] = 1 - sum(shares.values())
            print(f"{row.name}: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in shares.items()))


def help_runs(repeat: int) -> list[Run]:
    """Seconds until the command has said what it can do."""
    spent = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
        spent.append((time.perf_counter() - start, 0.0))
    return spent


def machine() -> dict[str, Any]:
    """What it was measured on."""
    known: dict[str, Any] = {
        "machine": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "GFLOP/s of a 4096x4096 float32 product": round(peak_gflops(device())),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def processor() -> str:
    """Its name."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (x.split(": ")[1] for x in lines if x.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
