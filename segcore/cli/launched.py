"""From flags to a config and launched ranks: how every run begins."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcore.build.solver import precision
from segcore.config import Config, load_config
from segcore.engine.launch import Fabric, launch
from segcore.engine.log import set_up


def launched(
    config_file: str | None, opts: Sequence[str], machines: dict[str, Any]
) -> tuple[Config, Fabric, int]:
    """The config, the ranks, and a seed: SEED, or one that is drawn where that is below 0.

    Args:
        machines: `num_gpus`, `num_machines`, `machine_rank` and `dist_url` of `launch`.
    """
    cfg = load_config(config_file, opts)
    fabric = launch(**machines, device=cfg.MODEL.DEVICE, precision=precision(cfg))
    set_up(Path(cfg.OUTPUT_DIR), fabric.global_rank)
    seed = cfg.SEED if cfg.SEED >= 0 else fabric.broadcast(secrets.randbelow(2**31))
    # every rank draws its own random numbers; the weights are those of rank 0
    fabric.seed_everything(seed + fabric.global_rank, verbose=False)
    return cfg, fabric, seed
