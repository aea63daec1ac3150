"""The training loop, in full view."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from segcore.contracts import Task
from segcore.engine.checkpoint import save_atomic
from segcore.engine.log import RunLog
from segcore.engine.optim import Schedule
from segcore.structures import Batch

logger = logging.getLogger(__name__)

Action = tuple[int, Callable[[int], None]]  # period in iterations (0: never), what to do


class NonFiniteError(FloatingPointError):
    """A loss or gradient stopped being a number."""


class Trainer:
    """Steps of a task; knows nothing of configs, files or data sets.

    Args:
        clip_norm: of all gradients together; 0: none.
        clip_value: of each gradient value; 0: none.
        accumulate: batches to one optimizer step.
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
        accumulate: int = 1,
        log: RunLog | None = None,
        folder: Path | None = None,
    ) -> None:
        self.task, self.schedule, self.fabric = task, schedule, fabric
        self.model, self.optimizer = fabric.setup(task.model, optimizer)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.clip_norm, self.clip_value, self.accumulate = clip_norm, clip_value, accumulate
        self.log, self.folder = log, folder
        self.iteration = 0
        self.stopping = False

    def fit(self, batches: Iterator[Batch], stop: int, every: list[Action]) -> bool:
        """Train up to iteration `stop`; False where a signal ended it before."""
        self.model.train()
        restore = self._catch_signals()
        try:
            while self.iteration < stop and not self.stopping:
                self._set_rate()
                begun = time.perf_counter()
                parts = [next(batches) for _ in range(self.accumulate)]
                waited = time.perf_counter() - begun
                losses = self.step([batch.to(self.fabric.device) for batch in parts])
                self.iteration += 1
                self._report(losses, parts, waited, last=self.iteration == stop)
                for period, action in every:
                    if period and self.iteration % period == 0 and self.iteration < stop:
                        action(self.iteration)
                        self.model.train()
        finally:
            restore()
        return self.iteration >= stop

    def step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """One optimizer step. An accumulated batch counts as one more rank would."""
        local = torch.stack([batch.counts() for batch in batches]).mean(0)  # (2,)
        mean: Any = self.fabric.all_reduce(local.to(self.fabric.device), reduce_op="mean")
        counts = mean.clamp(min=1)
        total: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            with self.fabric.no_backward_sync(self.model, enabled=i < len(batches) - 1):
                outputs = self.model(batch.images, batch.sizes, batch.targets)
                losses = self.task.losses(outputs, batch.targets, counts)
                self.fabric.backward(torch.stack(list(losses.values())).sum() / len(batches))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach() / len(batches)
        if self.clip_norm > 0:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.clip_norm, error_if_nonfinite=False
            )
        elif self.clip_value > 0:
            self.fabric.clip_gradients(self.model, self.optimizer, clip_val=self.clip_value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def state(self) -> dict[str, Any]:
        """What a resume needs besides the model."""
        return {"optimizer": self.optimizer.state_dict(), "iteration": self.iteration}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]

    @property
    def plain_model(self) -> nn.Module:
        """The model without Fabric's wrapper."""
        return self.task.model

    def _set_rate(self) -> None:
        factor = self.schedule(self.iteration)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def _report(
        self, losses: dict[str, Tensor], batches: list[Batch], waited: float, last: bool
    ) -> None:
        period = self.log.period if self.log else 20
        due = last or self.iteration % period == 0 or self.fabric.device.type == "cpu"
        values = None
        if due:  # the one wait for the device
            numbers = torch.stack(list(losses.values())).tolist()
            values = dict(zip(losses, numbers, strict=True))
            bad = [f"{k} = {v}" for k, v in values.items() if not math.isfinite(v)]
            if bad:
                self._stop_non_finite(bad, batches)
        if self.log:
            write = last or self.iteration % period == 0
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            self.log.step(
                self.iteration,
                values if write else None,
                rate=rate,
                data_time=waited,
                device=self.fabric.device,
            )

    def _stop_non_finite(self, bad: list[str], batches: list[Batch]) -> None:
        images = [record.id for batch in batches for record in batch.records]
        saved = ""
        if self.folder:
            path = self.folder / "nonfinite_batch.pt"
            content = {"images": [b.images.cpu() for b in batches], "ids": [str(i) for i in images]}
            save_atomic(content, path)
            saved = f"; the batch is in {path}"
        raise NonFiniteError(
            f"iteration {self.iteration}: {', '.join(bad[:4])} (of {len(bad)}), images {images}"
            f"{saved}; lower SOLVER.BASE_LR, or train in SOLVER.AMP.PRECISION fp32"
        )

    def _catch_signals(self) -> Callable[[], None]:
        """SIGTERM and Ctrl-C end the run after the step in hand."""

        def stop(number: int, frame: FrameType | None) -> None:
            logger.warning("signal %d: stopping after this step", number)
            self.stopping = True

        old = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}

        def restore() -> None:
            for number, handler in old.items():
                signal.signal(number, handler)

        return restore
