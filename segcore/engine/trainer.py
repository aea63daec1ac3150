"""The training loop, in full view."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from segcore.contracts import Task
from segcore.engine.ema import Ema
from segcore.engine.log import RunLog
from segcore.engine.optim import Clipping, Schedule, clip, resumed_state
from segcore.engine.ranks import Feed
from segcore.engine.readout import Readout, Step
from segcore.engine.signals import StopSignals
from segcore.engine.upload import Upload
from segcore.errors import DataError, NonFiniteError, WeightsError
from segcore.pinned import upload
from segcore.structures import Batch

Action = tuple[int, Callable[[int], None]]  # period in iterations (0: never), what to do


class Trainer:
    """Steps of a task; knows nothing of configs, files or data sets.

    Args:
        schedule: factor of the optimizer's rates, by iteration.
        accumulate: batches to one optimizer step.
        ema: of the model, updated by this optimizer's steps.
        still: modules that stay in eval mode, as frozen batch norms do.
        log: of rank 0.
        folder: where a batch with a non-finite loss is saved.
    """

    def __init__(
        self,
        task: Task,
        optimizer: Optimizer,
        schedule: Schedule,
        fabric: Fabric,
        *,
        clipping: Clipping,
        accumulate: int = 1,
        ema: Ema | None = None,
        still: Sequence[nn.Module] = (),
        log: RunLog | None = None,
        folder: Path | None = None,
    ) -> None:
        self.task, self.schedule, self.fabric = task, schedule, fabric
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.model, self.optimizer = fabric.setup(task.model, optimizer)
        self.clipping, self.log, self.ema, self.still = clipping, log, ema, still
        self.iteration = 0  # steps done, or handed to the GPU
        self.ended = ""  # why it needs no more steps, where an action says so; alike on all ranks
        self._stepped: tuple[int, torch.cuda.Event] | None = None  # the last one, on the GPU
        self.signals = StopSignals()
        self.feed = Feed(accumulate, fabric)
        self.upload = Upload(fabric.device)
        self.readout = Readout(fabric, log, folder, fail=self.feed.fail)

    def fit(self, batches: Iterator[Batch], stop: int, every: list[Action]) -> bool:
        """Train up to iteration `stop`, or until `ended`; False where a signal came before.

        Raises the DataError of any rank's batches, and the NonFiniteError of any rank's losses, on
        all of them, with `iteration` steps done.
        """
        self._train_mode()
        if self.ema and not self.ema.begun:
            self.ema.begin()
        with self.signals:
            while self.iteration < stop and not self.ended and not self._stop_asked():
                rate = self._set_rate()
                begun = time.perf_counter()
                parts = self._take(batches)
                waited = time.perf_counter() - begun
                numbers = self.step(parts)
                self.iteration += 1
                last = self.iteration == stop
                self.readout.send(
                    Step(
                        iteration=self.iteration,
                        numbers=numbers,
                        batches=parts,
                        rate=rate,
                        data_time=waited,
                        last=last,
                    )
                )
                if not last:  # after the last one the caller acts
                    self._act(every)
            self.readout.read()
        self.feed.raise_together()
        return self.iteration >= stop or bool(self.ended)

    def step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """One optimizer step. An accumulated batch counts as one more rank would."""
        counts, stop_asked = self._counts(batches)
        names: list[str] = []
        parts: list[Tensor] = []  # of each batch (names,)
        for i, part in enumerate(batches):
            batch = self.upload(part)
            with self.fabric.no_backward_sync(self.model, enabled=i < len(batches) - 1):
                outputs = self.model(batch.images, batch.sizes, batch.targets)
                losses = self.task.losses(outputs, batch.targets, counts)
                values = torch.stack(list(losses.values())) / len(batches)
                self.fabric.backward(values.sum())
            names = list(losses)
            parts.append(values.detach())
        norm = clip(self.fabric, self.model, self.optimizer, self.clipping)
        self.optimizer.step()
        if self.fabric.device.type == "cuda":
            self._stepped = self.iteration + 1, torch.cuda.Event()
            self._stepped[1].record()
        self.optimizer.zero_grad()
        numbers = dict(zip(names, torch.stack(parts).sum(0), strict=True))
        return numbers | {"grad_norm": norm, "stop_asked": stop_asked}

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

    def steps_done(self) -> int:
        """Steps whose weights are there: a GPU that waits for a lost rank has not done the last."""
        if not self._stepped:
            return self.iteration
        number, event = self._stepped
        return number if event.query() else number - 1

    @property
    def failed(self) -> bool:
        """Whether a loss of this rank's was no number."""
        return isinstance(self.feed.problem, NonFiniteError)

    @property
    def can_save(self) -> bool:
        """Whether an error was raised on all ranks: saving takes all of them."""
        return self.feed.shared

    def _take(self, batches: Iterator[Batch]) -> list[Batch]:
        try:
            return self.feed.take(batches)
        except DataError:
            self.readout.read()  # or a checkpoint might be made of weights that are no numbers
            raise

    def _act(self, every: list[Action]) -> None:
        """Save, evaluate: whatever is due between two steps."""
        due = [act for period, act in every if period and self.iteration % period == 0]
        if not due:
            return
        self.readout.read()
        self.feed.raise_together()  # or a rank would save while another has an error to raise
        for action in due:
            if self.log:
                self.log.pause()
            action(self.iteration)
            self._train_mode()
        if self.log:
            self.log.rest()

    def _train_mode(self) -> None:
        self.model.train()
        for module in self.still:
            module.eval()

    def _counts(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """(2,) segments and segments x views of a batch, on average; whether a rank should stop."""
        local = torch.stack([batch.counts() for batch in batches]).mean(0)
        asked = torch.tensor([float(bool(self.signals.caught or self.feed.problem))])
        sent = upload(torch.cat((local, asked)), self.fabric.device)
        mean: Any = self.fabric.all_reduce(sent, reduce_op="mean")
        return mean[:2].clamp(min=1), mean[2]

    def _set_rate(self) -> float:
        factor = self.schedule(self.iteration)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        return factor * max(self.base_rates)

    def _stop_asked(self) -> bool:
        """By a signal here; with several ranks, what all of them know since the last step."""
        alone = self.fabric.world_size == 1
        return bool(self.signals.caught) if alone else self.readout.stop_asked
