"""The training loop, in full view."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from segcore.contracts import Task
from segcore.engine.finite import NonFiniteError, check_finite
from segcore.engine.log import RunLog
from segcore.engine.optim import Schedule, resumed_state
from segcore.engine.ranks import raise_together
from segcore.engine.signals import StopSignals
from segcore.errors import DataError, WeightsError
from segcore.structures import Batch

logger = logging.getLogger(__name__)

Action = tuple[int, Callable[[int], None]]  # period in iterations (0: never), what to do

__all__ = ["Action", "NonFiniteError", "Trainer"]


@dataclass(slots=True)
class _Step:
    """A step whose numbers are on their way to the host."""

    iteration: int
    names: list[str]
    numbers: Tensor  # (2, names) on the host once `ready`: this rank's, and the mean of all
    ready: torch.cuda.Event | None
    batches: list[Batch]  # as the loader gave them: on the host
    rate: float
    data_time: float
    write: bool


class Trainer:
    """Steps of a task; knows nothing of configs, files or data sets.

    Args:
        clip_norm: of all gradients together; 0: none.
        clip_value: of each gradient value; 0: none.
        clip_each: norm of each parameter's gradient; 0: none.
        norm_type: which norm `clip_each` means.
        accumulate: batches to one optimizer step.
        folder: where a batch with a non-finite loss is kept.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        schedule: Schedule,
        fabric: Fabric,
        *,
        clip_norm: float = 0.01,
        clip_value: float = 0.0,
        clip_each: float = 0.0,
        norm_type: float = 2.0,
        accumulate: int = 1,
        log: RunLog | None = None,
        folder: Path | None = None,
    ) -> None:
        self.task, self.schedule, self.fabric = task, schedule, fabric
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.model, self.optimizer = fabric.setup(task.model, optimizer)
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.clip_each, self.norm_type = clip_each, norm_type
        self.accumulate = accumulate
        self.log, self.folder = log, folder
        self.period = log.period if log else 20
        self.iteration = 0
        self.signals = StopSignals()
        self.stopping = False
        self.problem: DataError | None = None  # of this rank's data
        self.together = fabric.world_size == 1  # an error is every rank's: they may still save
        self._parts: list[Batch] = []
        self._flying: _Step | None = None

    def fit(self, batches: Iterator[Batch], stop: int, every: list[Action]) -> bool:
        """Train up to iteration `stop`; False where a signal ended it before.

        Raises the DataError of any rank's batches on all of them, with `iteration` steps done.
        """
        self.model.train()
        first = self.iteration
        with self.signals:
            while self.iteration < stop and not self._told_to_stop():
                rate = self._set_rate()
                begun = time.perf_counter()
                parts = self._next(batches)
                if self.iteration == first:
                    self._raise_together()  # nobody has a batch to repeat yet
                waited = time.perf_counter() - begun
                losses = self.step(parts)
                self.iteration += 1
                last = self.iteration == stop
                due = [act for period, act in every if period and self.iteration % period == 0]
                self._send(losses, parts, rate, waited, last)
                if last or due:
                    self._land()
                if not last:  # after the last one the caller acts
                    self._act(due)
            self._land()
        if self.stopping:
            self._raise_together()
        return self.iteration >= stop

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        """The batches of a step. The other ranks learn of a failure with this step's numbers.

        So the rank that failed takes part in it once more, with what it had before.
        """
        if self.problem:
            return self._parts
        try:
            self._parts = [next(batches) for _ in range(self.accumulate)]
        except DataError as problem:
            self._land()  # or a checkpoint might be made of weights that are no numbers
            if self.fabric.world_size == 1:
                raise
            self.problem = problem
        return self._parts

    def _raise_together(self) -> None:
        """The error of one rank's data on all."""
        try:
            raise_together(self.problem, self.fabric)
        except DataError:
            self.together = True
            raise

    def step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """One optimizer step. An accumulated batch counts as one more rank would."""
        counts, stop_asked = self._counts(batches)
        total: dict[str, Tensor] = {}
        for i, part in enumerate(batches):
            batch = part.to(self.fabric.device)
            with self.fabric.no_backward_sync(self.model, enabled=i < len(batches) - 1):
                outputs = self.model(batch.images, batch.sizes, batch.targets)
                losses = self.task.losses(outputs, batch.targets, counts)
                self.fabric.backward(torch.stack(list(losses.values())).sum() / len(batches))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(batches)
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total | {"grad_norm": norm, "stop_asked": stop_asked}

    def state(self) -> dict[str, Any]:
        """What a resume needs besides the model."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "scaler": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        try:
            fitting = resumed_state(self.optimizer, state["optimizer"])
            self.optimizer.load_state_dict(fitting)
        except (ValueError, KeyError, IndexError) as error:
            raise WeightsError(
                f"the checkpoint's optimizer does not fit this model ({error}); resume with the"
                " config that the run was started with, or start a new run from its weights with"
                " MODEL.WEIGHTS and another OUTPUT_DIR"
            ) from None
        if state.get("scaler"):
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.iteration = state["iteration"]

    def _act(self, due: list[Callable[[int], None]]) -> None:
        """Save, evaluate: whatever is due between two steps."""
        for action in due:
            if self.log:
                self.log.pause()
            action(self.iteration)
            self.model.train()
        if due and self.log:
            self.log.rest()

    def _counts(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """(2,) segments and segments x views of a batch, on average; whether a rank should stop."""
        local = torch.stack([batch.counts() for batch in batches]).mean(0)
        asked = torch.tensor([float(bool(self.signals.caught or self.problem))])
        mean: Any = self.fabric.all_reduce(
            torch.cat((local, asked)).to(self.fabric.device), reduce_op="mean"
        )
        return mean[:2].clamp(min=1), mean[2]

    def _clip(self) -> Tensor:
        """Clip as asked for; the norm of all gradients, 0 where nobody has measured it."""
        fabric, model, optimizer = self.fabric, self.model, self.optimizer
        if self.clip_norm > 0:
            norm: Any = fabric.clip_gradients(
                model, optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
            )
            return norm
        if self.clip_value > 0:
            fabric.clip_gradients(model, optimizer, clip_val=self.clip_value)
        elif self.clip_each > 0:
            fabric.clip_gradients(model, optimizer, clip_val=torch.inf)  # undoes fp16's scaling
            for parameter in self.task.model.parameters():
                clip_grad_norm_(parameter, self.clip_each, self.norm_type)
        return torch.zeros((), device=fabric.device)

    def _set_rate(self) -> float:
        factor = self.schedule(self.iteration)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        return factor * max(self.base_rates)

    def _told_to_stop(self) -> bool:
        """A signal here; with several ranks, what all of them know since the last step."""
        alone = self.fabric.world_size == 1
        return bool(self.signals.caught) if alone else self.stopping

    def _send(
        self,
        losses: dict[str, Tensor],
        parts: list[Batch],
        rate: float,
        waited: float,
        last: bool,
    ) -> None:
        """Start the copy to the host; on a GPU it is looked at one step later, for no wait."""
        write = last or self.iteration % self.period == 0
        local = torch.stack(list(losses.values())).float()
        mean: Any = self.fabric.all_reduce(local.clone(), reduce_op="mean") if write else local
        numbers = torch.stack((local, mean)).to("cpu", non_blocking=True)
        ready = None
        if local.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        self._land()
        self._flying = _Step(
            self.iteration, list(losses), numbers, ready, parts, rate, waited, write
        )
        if ready is None:
            self._land()

    def _land(self) -> None:
        """Look at the numbers of the step before: stop if they are none, log them if it is time."""
        step, self._flying = self._flying, None
        if step is None:
            return
        if step.ready:
            step.ready.synchronize()
        local, mean = (
            dict(zip(step.names, row, strict=True)) for row in step.numbers.double().tolist()
        )
        self.stopping = local.pop("stop_asked") > 0
        del mean["stop_asked"]
        scaled = bool(self.fabric.strategy.precision.state_dict())
        judged = {k: v for k, v in local.items() if not (scaled and k == "grad_norm")}
        check_finite(judged, step.iteration, step.batches, self.folder, self.fabric.global_rank)
        if self.log:
            self.log.step(
                step.iteration,
                mean if step.write else None,
                rate=step.rate,
                data_time=step.data_time,
                device=self.fabric.device,
            )
