"""What a config's steps and inferences take here, on images of its own data sets.

One process of its own answers all questions of a plan, so that nothing of it is left, the libraries
are loaded once, and a step that was timed for one question counts for the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import torch

from segcore.build import data, solver
from segcore.build.evaluators import build_windowed
from segcore.build.task import build_for_training
from segcore.cli.worst_batches import (
    STEP,
    Peak,
    in_order,
    inference,
    out_of_memory,
    peak_of,
    worst_parts,
)
from segcore.cli.worst_images import Images, drawn_batch
from segcore.config import Config, load_config
from segcore.contracts import Task
from segcore.engine.launch import Fabric, launch
from segcore.engine.trainer import Trainer
from segcore.plan.schedule import FULL
from segcore.structures import Batch

IMAGES = 4  # at test time, the first of which does not count
STEADY = 1.1  # longest by shortest of three steps, from which on more would say the same


class Meter:
    """Asks the process that measures; as a context, it ends with it.

    Configs of one meter differ in SOLVER alone.

    Args:
        alone: measures the share of the memory in processes of their own, as `share` does.
    """

    def __init__(self, alone: Callable[[str, Sequence[str], float], float]) -> None:
        self.alone = alone
        self._process: Any = None
        self._pipe: Any = None

    def step(
        self, config_file: str, opts: Sequence[str], precision: str, *, enough: int, longest: float
    ) -> float:
        """Seconds of an optimizer step on images of the data set: the median of those so far.

        Raises RuntimeError where the process failed: it has said why.

        Args:
            precision: in which it is made, of SOLVER.AMP.PRECISION.
            enough: steps; fewer where three are alike.
            longest: seconds after which no more is begun; a first one, which does not count, and
                one that does are made in any case.
        """
        given = {"precision": precision, "enough": enough, "longest": longest}
        return self._answer("step", config_file, opts, given)

    def image(self, config_file: str, opts: Sequence[str], *, longest: float) -> float:
        """Seconds of an image at test time, at TEST.PRECISION; 0: there is no test set."""
        return self._answer("image", config_file, opts, {"longest": longest})

    def share(self, config_file: str, opts: Sequence[str], memory: float) -> float:
        """Share of the memory that the worst batch takes, step and inference; 2: it does not fit.

        Where it is too much with what was measured before, it is measured alone.

        Args:
            memory: MB that there are.
        """
        try:
            peak: Peak | None = self._ask("peak", config_file, opts, {})
        except EOFError:  # ended by the system
            peak = None
        if peak is None or peak.reserved > FULL * memory:
            self.close()
            return self.alone(config_file, opts, memory)
        return peak.reserved / memory

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process:
            self._pipe.close()
            self._process.join()
            self._process = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, *question: Any) -> float:
        try:
            return self._ask(*question)
        except EOFError:
            raise RuntimeError("a step on the data set failed; see above") from None

    def _ask(self, *question: Any) -> Any:
        if not self._process:
            context = get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_measure, args=(theirs,))
            self._process.start()
            theirs.close()
        self._pipe.send(question)
        return self._pipe.recv()


def _measure(pipe: Connection) -> None:
    """Answer until nobody asks any more."""
    logging.disable(logging.WARNING)  # the training itself says it again
    bench: Bench | None = None
    while True:
        try:
            name, config_file, opts, given = pipe.recv()
        except EOFError:
            return
        cfg = in_order(load_config(config_file, opts))
        bench = bench or Bench(cfg)
        pipe.send(QUESTIONS[name](bench, cfg, **given))


class Bench:
    """A model, the trainer that was asked for last, and all steps that were timed."""

    def __init__(self, cfg: Config) -> None:
        self.catalog = data.catalog(cfg)
        self.task: Task = build_for_training(cfg, data.train_metadata(cfg, self.catalog))
        self.seconds: dict[tuple[Any, ...], list[float]] = {}  # of steps, by what was asked for
        self.key: tuple[Any, ...] = ()  # of the trainer
        self.trainer: Trainer | None = None
        self.batches: Iterator[Batch] = iter(())

    def step(self, cfg: Config, precision: str, enough: int, longest: float) -> float:
        """Seconds of a step."""
        trainer = self._trainer(cfg, precision)
        times = self.seconds.setdefault(self.key, [])
        begun = time.perf_counter()
        while not times or not (_known(times, enough) or time.perf_counter() - begun > longest):
            times.append(self._timed(cfg, trainer))
        return median(times)

    def image(self, cfg: Config, longest: float) -> float:
        """Seconds of an image, the first of which does not count."""
        if not cfg.DATASETS.TEST:
            return 0.0
        fabric = self._trainer(cfg, solver.precision(cfg)).fabric
        self.task.model.eval()
        times = []
        for batch in data.test_batches(cfg, self.task, self.catalog, cfg.DATASETS.TEST[0], fabric):
            start = time.perf_counter()
            with torch.inference_mode():
                self.task.postprocess(self.task.infer(batch, fabric.device), batch)
            times.append((time.perf_counter() - start) / len(batch.records))
            if len(times) >= IMAGES or sum(times) > longest:
                break
        return median(times[1:] or times)

    def peak(self, cfg: Config) -> Peak | None:
        """Of the worst step and the worst inferences, and what came before; None: too little."""
        trainer = self._trainer(cfg, solver.precision(cfg))
        device = trainer.fabric.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            for part, images in worst_parts(cfg, self.task, self.catalog, 1):
                self._worst(cfg, trainer, part, images)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None
        return peak_of(device)

    def _worst(self, cfg: Config, trainer: Trainer, part: str, images: Images) -> None:
        """One step is enough: the optimizer has its state from those before."""
        with TemporaryDirectory() as folder:
            batch = drawn_batch(self.task, images, Path(folder), train=part == STEP)
        if part == STEP:
            trainer.model.train()
            trainer.step([batch] * cfg.SOLVER.ACCUMULATE)
        else:
            fabric = trainer.fabric
            inference(self.task, batch, fabric.device, build_windowed(cfg, self.task, fabric))

    def _trainer(self, cfg: Config, precision: str) -> Trainer:
        """The trainer, whose first step is made: it takes longer than those that follow."""
        key = (precision, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE)
        if self.trainer and key == self.key:
            return self.trainer
        self.trainer, self.batches, self.key = None, iter(()), key  # whose memory is free now
        fabric = launch(device=cfg.MODEL.DEVICE, precision=precision)
        fabric.seed_everything(0, verbose=False)  # every precision sees the same images
        self.trainer = _new_trainer(cfg, self.task, fabric)
        self.batches = data.train_batches(cfg, self.task, self.catalog, fabric)
        self._timed(cfg, self.trainer)
        return self.trainer

    def _timed(self, cfg: Config, trainer: Trainer) -> float:
        trainer.model.train()
        start = time.perf_counter()
        parts = [next(self.batches) for _ in range(cfg.SOLVER.ACCUMULATE)]
        trainer.step(parts)["grad_norm"].item()  # waits for a GPU
        return time.perf_counter() - start


QUESTIONS = {"step": Bench.step, "image": Bench.image, "peak": Bench.peak}


def _known(times: Sequence[float], enough: int) -> bool:
    """Whether one step more would say nothing new."""
    return len(times) >= enough or (len(times) >= 3 and max(times) <= STEADY * min(times))


def _new_trainer(cfg: Config, task: Task, fabric: Fabric) -> Trainer:
    optimizer, schedule = solver.build_optimizer(cfg, task)
    parts, clip = cfg.SOLVER.ACCUMULATE, solver.clipping(cfg)
    return Trainer(task, optimizer, schedule, fabric, clipping=clip, accumulate=parts)
