"""From flags to a config and launched ranks: how every run begins."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from segcore.build.solver import precision
from segcore.config import Config, load_config
from segcore.engine.folder_lock import only_run_in
from segcore.engine.launch import Fabric, launch
from segcore.engine.log import set_up
from segcore.engine.ranks import on_first_rank
from segcore.user_path import user_path


def launched(
    config_file: str | None, opts: Sequence[str], machines: dict[str, Any]
) -> tuple[Config, Fabric, int]:
    """The config, the ranks, and a seed: SEED, or one that is drawn where that is below 0.

    Args:
        machines: `num_gpus`, `num_machines`, `machine_rank` and `dist_url` of `launch`; no GPU is
            the CPU, as MODEL.DEVICE cpu says it too.
    """
    cfg = load_config(config_file, opts)
    cfg = replace(cfg, OUTPUT_DIR=str(user_path(cfg.OUTPUT_DIR)))
    if machines["num_gpus"] == 0:
        cfg = replace(cfg, MODEL=replace(cfg.MODEL, DEVICE="cpu"))
        machines = machines | {"num_gpus": 1}
    fabric = launch(**machines, device=cfg.MODEL.DEVICE, precision=precision(cfg))
    set_up(Path(cfg.OUTPUT_DIR), fabric.global_rank)
    seed = cfg.SEED if cfg.SEED >= 0 else fabric.broadcast(secrets.randbelow(2**31))
    # every rank draws its own random numbers; the weights are those of rank 0
    fabric.seed_everything(seed + fabric.global_rank, verbose=False)
    return cfg, fabric, seed


@contextmanager
def alone_in_output(cfg: Config, fabric: Fabric) -> Iterator[None]:
    """ConfigError on all ranks where another run is at work in OUTPUT_DIR."""
    with ExitStack() as held:
        folder = only_run_in(Path(cfg.OUTPUT_DIR), "OUTPUT_DIR")
        on_first_rank(lambda: held.enter_context(folder), fabric)
        yield
