"""What a config's steps and inferences take here, on images of its own data sets.

Measured in a process of its own, so that nothing of it is left.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

import torch

from segcore.build import data, solver
from segcore.build.task import build_for_training
from segcore.config import Config, load_config
from segcore.contracts import Task
from segcore.data.catalog import Catalog
from segcore.engine.launch import Fabric, launch
from segcore.engine.trainer import Trainer

WARM, STEPS = 2, 8  # steps that do not count, and all of them
IMAGES = 4  # at test time, the first of which does not count
LONGEST = 40.0  # seconds after which what was measured is enough


def typical_seconds(
    config_file: str, opts: Sequence[str], precisions: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """By precision: of an optimizer step, and of an image at test time (0: no test set); medians.

    Raises RuntimeError where the process failed: it has said why.

    Args:
        precisions: in which steps are made, of SOLVER.AMP.PRECISION; images are at TEST.PRECISION.
    """
    ours, theirs = get_context("spawn").Pipe(duplex=False)
    given = (config_file, opts, precisions, theirs)
    process = get_context("spawn").Process(target=_measure, args=given)
    process.start()
    theirs.close()
    try:
        seconds = ours.recv()
    except EOFError:
        seconds = None
    process.join()
    if seconds is None:
        raise RuntimeError("a step on the data set failed; see above")
    return seconds


def _measure(
    config_file: str, opts: Sequence[str], precisions: Sequence[str], pipe: Connection
) -> None:
    logging.disable(logging.WARNING)  # the training itself says it again
    cfg = load_config(config_file, opts)
    catalog = data.catalog(cfg)
    task = build_for_training(cfg, data.train_metadata(cfg, catalog))
    steps: dict[str, float] = {}
    for name in precisions:
        fabric = launch(device=cfg.MODEL.DEVICE, precision=name)
        fabric.seed_everything(0, verbose=False)
        steps[name] = _step(cfg, task, catalog, fabric)
    image = _image(cfg, task, catalog, fabric) if cfg.DATASETS.TEST else 0.0
    pipe.send({name: (step, image) for name, step in steps.items()})


def _step(cfg: Config, task: Task, catalog: Catalog, fabric: Fabric) -> float:
    optimizer, schedule = solver.build_optimizer(cfg, task)
    parts, clip = cfg.SOLVER.ACCUMULATE, solver.clipping(cfg)
    trainer = Trainer(task, optimizer, schedule, fabric, clipping=clip, accumulate=parts)
    trainer.model.train()
    batches = data.train_batches(cfg, task, catalog, fabric)
    times = [time.perf_counter()]
    while len(times) <= STEPS and (times[-1] - times[0] < LONGEST or len(times) < WARM + 2):
        trainer.step([next(batches) for _ in range(parts)])["grad_norm"].item()  # waits for a GPU
        times.append(time.perf_counter())
    return median(b - a for a, b in zip(times[WARM:], times[WARM + 1 :], strict=False))


def _image(cfg: Config, task: Task, catalog: Catalog, fabric: Fabric) -> float:
    task.model.to(fabric.device).eval()
    loader = data.test_batches(cfg, task, catalog, cfg.DATASETS.TEST[0], fabric)
    times = []
    for batch in loader:
        start = time.perf_counter()
        with torch.inference_mode():
            task.postprocess(task.infer(batch, fabric.device), batch)
        times.append((time.perf_counter() - start) / len(batch.records))
        if len(times) >= IMAGES or sum(times) > LONGEST:
            break
    return median(times[1:] or times)
