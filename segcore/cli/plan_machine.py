"""The machine that a plan is for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from segcore.config import load_config
from segcore.engine.device import choose_device
from segcore.plan.facts import Machine


def this_machine(opts: Sequence[str]) -> Machine:
    """Where a config with these KEY VALUE ... would be trained."""
    device = choose_device(load_config(None, opts).MODEL.DEVICE)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Machine(device="cuda", name=name, memory=free / 2**20, workers=cores or 1)
    name = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else "MPS"
    return Machine(device=device.type, name=name, memory=free_memory(), workers=cores or 1)


def free_memory() -> float:
    """MB of main memory that nobody uses; all of it where the system does not say."""
    info = Path("/proc/meminfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
