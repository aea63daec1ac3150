"""The numbers of training steps on their way to the host, without making a GPU wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from segcore.engine.finite import check_finite
from segcore.engine.log import RunLog
from segcore.errors import NonFiniteError
from segcore.structures import Batch

PERIOD = 20  # steps between two entries of the log, as in detectron2; alike on all ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step that was handed to the device, perhaps not computed yet."""

    iteration: int  # steps done, with this one
    numbers: dict[str, Tensor]  # scalars: losses, "grad_norm", and "stop_asked" (> 0: by a rank)
    batches: list[Batch]  # as the loader gave them: on the host
    rate: float
    data_time: float  # seconds waited for the batches
    last: bool  # of the run


@dataclass(frozen=True, slots=True)
class _Sent:
    step: Step
    names: list[str]
    numbers: Tensor  # (2, names) on the host once `ready`: this rank's, and the mean of all
    asked: Tensor  # the same: over 0 where a rank should stop
    ready: torch.cuda.Event | None
    write: bool  # into the log


class Readout:
    """Checks the numbers of every step and logs them now and then.

    Numbers of a GPU are read when the next step has been handed to it, so that it never waits.

    Args:
        log: of rank 0.
        folder: where a batch with a loss that is no number is saved.
        fail: what to do where one of this rank's numbers is none.
    """

    def __init__(
        self,
        fabric: Fabric,
        log: RunLog | None,
        folder: Path | None,
        *,
        fail: Callable[[NonFiniteError], None],
    ) -> None:
        self.fabric, self.log, self.folder, self.fail = fabric, log, folder, fail
        self.stop_asked = False  # by any rank, as all of them know since the last step read
        self._sent: _Sent | None = None
        self._failed = False

    def send(self, step: Step) -> None:
        """Start the copy of a step's numbers to the host, then read those of the step before."""
        write = step.last or step.iteration % PERIOD == 0
        shown = {name: x for name, x in step.numbers.items() if name != "stop_asked"}
        local = torch.stack(list(shown.values())).float()  # (names,)
        mean: Any = self.fabric.all_reduce(local.clone(), reduce_op="mean") if write else local
        pair = torch.stack((local, mean)), step.numbers["stop_asked"]
        numbers, asked = (x.to("cpu", non_blocking=x.is_cuda) for x in pair)
        ready = None
        if local.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        self.read()
        self._sent = _Sent(step, list(shown), numbers, asked, ready, write)
        if ready is None:
            self.read()

    def read(self) -> None:
        """Read the numbers last sent."""
        sent, self._sent = self._sent, None
        if sent is None:
            return
        if sent.ready:
            sent.ready.synchronize()
        step, rows = sent.step, sent.numbers.double().tolist()
        local, mean = (dict(zip(sent.names, row, strict=True)) for row in rows)
        self.stop_asked = bool(sent.asked > 0)
        # fp16's scaler skips a step whose gradients overflow: only the losses must be numbers
        scaled = bool(self.fabric.strategy.precision.state_dict())
        checked = {k: v for k, v in local.items() if not (scaled and k == "grad_norm")}
        if not self._failed:  # the steps that follow one are of no interest
            self._check(checked, step)
        if self.log:
            self.log.step(
                step.iteration,
                mean if sent.write else None,
                rate=step.rate,
                data_time=step.data_time,
                device=self.fabric.device,
            )

    def _check(self, numbers: dict[str, float], step: Step) -> None:
        rank = self.fabric.global_rank
        try:
            check_finite(numbers, step.iteration, step.batches, self.folder, rank)
        except NonFiniteError as problem:
            self._failed = True
            self.fail(problem)
