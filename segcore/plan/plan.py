"""From facts to a plan: first a draft, which is measured, then the time that it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from segcore.plan import schedule
from segcore.plan.capacity import capacity
from segcore.plan.choices import BASES, minutes_of, network_of, task_of
from segcore.plan.decision import Decision, merged
from segcore.plan.facts import DataFacts, Machine, Measured
from segcore.plan.views import mirroring, offered, shown_share, sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody wants beside what the facts say; None: nothing."""

    task: str | None = None
    network: str | None = None
    minutes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A config as lines with their reasons.

    Args:
        task, network: of choices.TASKS and NETWORKS.
        base: name of the shipped config that it builds on.
        minutes: of the training.
        reasons: of these four, in this order.
        decisions: the keys.
    """

    task: str
    network: str
    base: str
    minutes: float
    reasons: tuple[str, str, str, str]
    decisions: tuple[Decision, ...] = ()

    def with_(self, *decisions: Decision) -> Plan:
        """The plan with more decisions; later ones count."""
        return replace(self, decisions=tuple(merged(self.decisions, decisions)))

    def value(self, key: str, default: Any = None) -> Any:
        """What is decided about a key."""
        return {d.key: d.value for d in self.decisions}.get(key, default)


def begin(data: DataFacts, machine: Machine, wishes: Wishes) -> Plan:
    """Task, network, base and minutes."""
    minutes, long = minutes_of(data)
    if wishes.minutes is not None:
        minutes, long = wishes.minutes, "as --minutes says"
    task, why = task_of(data, wishes.task)
    network, best = network_of(task, data, machine, minutes, wishes.network)
    base = BASES[task, network]
    return Plan(
        task=task,
        network=network,
        base=base,
        minutes=minutes,
        reasons=(why, best, f"{task} with {network}", long),
    )


def draft(plan: Plan, data: DataFacts, machine: Machine, base: Mapping[str, Any]) -> Plan:
    """All that needs no measurement.

    Args:
        plan: of `begin`.
        base: the values of its base, by dotted key.
    """
    views = sizes(data, machine, plan.network, base)
    decided = {d.key: d.value for d in views}
    edge = decided["INPUT.MIN_SIZE_TEST"]
    side = decided.get("INPUT.CROP.SIZE", [0])[0]
    shown = shown_share(data, edge or data.edge, side)
    entity = []
    if plan.task == "entity":
        entity = [Decision("ENTITY.ENABLE", True, "every segment is an entity, whatever its class")]
    return plan.with_(
        *entity,
        *views,
        *mirroring(data, plan.task),
        *offered(data, plan.task),
        *capacity(data, plan.task, plan.network, base, edge, shown),
        *schedule.device(machine),
    )


def finished(
    plan: Plan, data: DataFacts, base: Mapping[str, Any], measured: Measured, tested: int
) -> Plan:
    """The plan with its number of steps.

    Args:
        measured: of the plan as it is.
        tested: images of the test set.
    """
    size = plan.value("SOLVER.IMS_PER_BATCH", base["SOLVER.IMS_PER_BATCH"])
    return plan.with_(*schedule.steps(data, plan.minutes, size, measured, tested))
