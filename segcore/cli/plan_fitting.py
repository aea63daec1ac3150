"""A plan's precision, batch and its parts by measurements that take a small part of its time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from segcore.plan import schedule
from segcore.plan.decision import rounded_up
from segcore.plan.facts import DataFacts, Machine, Measured
from segcore.plan.plan import Plan
from segcore.plan.plan_yaml import plan_yaml

logger = logging.getLogger(__name__)

PROBES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16"), "mps": ("fp32",)}  # precisions
FEW, ENOUGH = 2, 6  # steps: to compare by, and to plan with
PART = 0.02  # of the plan's time: each of the measurements, one step at least
LONGEST = 40.0  # seconds after which what was measured is enough


class Measures(Protocol):
    """What measures a config's file: `segcore.cli.measured_steps.Meter`, or a test's numbers."""

    def step(
        self, config_file: str, opts: Sequence[str], precision: str, *, enough: int, longest: float
    ) -> float:
        """Seconds of a step."""
        ...

    def image(self, config_file: str, opts: Sequence[str], *, longest: float) -> float:
        """Seconds of an image."""
        ...

    def share(self, config_file: str, opts: Sequence[str], memory: float) -> float:
        """Share of the memory."""
        ...


@dataclass(slots=True)
class Probe:
    """Measures a plan that is not finished, and says what it measures.

    Args:
        file: where it is written to.
        base: values of its base.
        opts: laid over it.
        total: measurements that are to come.
    """

    file: Path
    base: dict[str, Any]
    opts: tuple[str, ...]
    meter: Measures
    total: int = 0
    done: int = field(default=0, init=False)

    def step(self, plan: Plan, precision: str, enough: int = ENOUGH) -> float:
        """Seconds of a step.

        Args:
            enough: steps.
        """
        size = plan.value("SOLVER.IMS_PER_BATCH", self.base["SOLVER.IMS_PER_BATCH"])
        pieces = plan.value("SOLVER.ACCUMULATE", 1)
        split = f" in {pieces} parts" if pieces > 1 else ""
        longest = longest_of(plan.minutes)
        return self._said(
            f"a step of {size} images{split} in {precision}",
            "{:.2f} s",
            lambda file: self.meter.step(
                file, self.opts, precision, enough=enough, longest=longest
            ),
            plan,
        )

    def image(self, plan: Plan) -> float:
        """Seconds of an image at test time."""
        longest = longest_of(plan.minutes)
        return self._said(
            "an image at test time",
            "{:.2f} s",
            lambda file: self.meter.image(file, self.opts, longest=longest),
            plan,
        )

    def memory(self, plan: Plan, machine: Machine) -> float:
        """Share of the memory."""
        return self._said(
            "memory of the worst images",
            "{:.0%}",
            lambda file: self.meter.share(file, self.opts, machine.memory),
            plan,
        )

    def _said(self, what: str, form: str, measure: Callable[[str], float], plan: Plan) -> float:
        self.done += 1
        self.total = max(self.total, self.done)
        words = f"measuring {self.done} of {self.total}: {what} ..."
        print(words, end=" ", file=sys.stderr, flush=True)
        self.file.write_text(plan_yaml(plan, self.base, ()), encoding="utf-8")
        value = measure(str(self.file))
        print(form.format(value), file=sys.stderr, flush=True)
        return value


def longest_of(minutes: float) -> float:
    """Seconds that one measurement may go on."""
    return min(PART * 60 * minutes, LONGEST)


def fitted(
    plan: Plan, facts: DataFacts, machine: Machine, probe: Probe, ranks: int = 1
) -> tuple[Plan, Measured]:
    """Precision, batch and its parts by measurements, and the last of these."""
    plan, on = batched(plan, facts, PROBES[machine.device], probe, ranks)
    size = plan.value("SOLVER.IMS_PER_BATCH")
    step, image = probe.step(plan, on), probe.image(plan)
    peak, pieces = probe.memory(plan, machine), 1
    while (more := schedule.pieces_of(size, peak, pieces)) != pieces:
        pieces = more
        plan = plan.with_(*schedule.batch(probe.base, size, facts.images, pieces))
        peak = probe.memory(plan, machine)
    if pieces > 1:
        step = probe.step(plan, on)
    if peak > schedule.FULL:
        logger.warning("the worst batch takes %.0f %% of the memory that is free", 100 * peak)
    return plan, Measured(step=step, image=image, peak=peak)


def batched(
    plan: Plan, facts: DataFacts, precisions: Sequence[str], probe: Probe, ranks: int
) -> tuple[Plan, str]:
    """With its batch, and the precision.

    The smallest batch is timed first: where even of it too few steps fit into the time, a larger
    one need not be measured, and a step of the base's takes little of the time where they fit.
    """
    base, usual = probe.base, int(probe.base["SOLVER.IMS_PER_BATCH"])
    size = rounded_up(min(schedule.SMALLEST_BATCH, usual), ranks)
    probe.total = len(precisions) + 3
    chosen, on, step = compared(
        plan.with_(*schedule.batch(base, size, facts.images)), precisions, probe
    )
    if size < usual and schedule.enough_fit(plan.minutes, step):
        probe.total += len(precisions)
        larger = plan.with_(*schedule.batch(base, rounded_up(usual, ranks), facts.images))
        chosen, on, step = compared(larger, precisions, probe)
        size = rounded_up(schedule.batch_of(base, plan.minutes, step), ranks)
    return chosen.with_(*schedule.batch(base, size, facts.images)), on


def compared(plan: Plan, precisions: Sequence[str], probe: Probe) -> tuple[Plan, str, float]:
    """With the precision that a few steps say, its name, and seconds of its step."""
    times = {name: probe.step(plan, name, FEW) for name in precisions}
    plan = plan.with_(*schedule.precision(times))
    on = plan.value("SOLVER.AMP.PRECISION", "fp32")
    return plan, on, times[on]
