"""What a plan says to people: its file's first lines, and its table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from segcore.plan.facts import DataFacts, Machine
from segcore.plan.plan import Plan, Wishes
from segcore.plan.plan_yaml import differing, in_yaml


def said_of(facts: DataFacts) -> str:
    """A training set in a line."""
    objects = f"{int(facts.counts.sum())} objects, " if facts.counts.any() else ""
    low, high = facts.sizes.min(0), facts.sizes.max(0)
    return (
        f"{facts.images} images of {low[0]}x{low[1]} to {high[0]}x{high[1]}, {objects}"
        f"{len(facts.classes)} class{'es' if len(facts.classes) != 1 else ''}"
    )


def said_of_test(tested: int, *, held_back: bool) -> str:
    """A test set in a line."""
    if not held_back:
        return f"{tested} images"
    return (
        f"{tested} images, a fifth that was held back, chosen by their names: give a second data"
        " set where neighbouring images show the same scene"
    )


def head_lines(
    names: Sequence[str], wishes: Wishes, opts: Sequence[str], machine: Machine
) -> list[str]:
    """What was asked for, and where it was measured."""
    words = ["segcore", "plan", *names]
    for key in ("task", "network", "minutes"):
        if (value := getattr(wishes, key)) is not None:
            words += [f"--{key}", f"{value:g}" if isinstance(value, float) else value]
    return [
        f"Written by: {shlex.join([*words, *opts])}",
        f"Measured on {machine.name}, {machine.memory / 2**10:.1f} GB free. A config like any"
        " other: change what you know better.",
    ]


def report(plan: Plan, base: Mapping[str, Any]) -> None:
    """The plan as a table."""
    rows = [
        ("task", plan.task, plan.reasons[0]),
        ("network", plan.network, plan.reasons[1]),
        ("base", plan.base, plan.reasons[2]),
        ("minutes", f"{plan.minutes:g}", plan.reasons[3]),
    ]
    written = {decision.key for decision in differing(plan.decisions, base)}
    for decision in plan.decisions:
        same = "" if decision.key in written else " (as the base has it)"
        if decision.offered:
            same = " (a comment in the file: remove its # to have it)"
        rows.append((decision.key, in_yaml(decision.value), decision.reason + same))
    table = Table("key", "value", "reason")
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for row in rows:
        table.add_row(*map(Text, row))  # whose brackets are no markup
    Console(highlight=False).print(table)
