"""A plan as a config file, each line with its reason above it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from segcore.plan.decision import Decision
from segcore.plan.plan import Plan

WIDTH = 100
ORDER = ("DATASETS", "MODEL", "ENTITY", "INPUT", "SOLVER", "TEST", "DATALOADER")


def differing(decisions: Sequence[Decision], base: Mapping[str, Any]) -> list[Decision]:
    """Those whose value is not the base's already."""
    return [d for d in decisions if d.key not in base or base[d.key] != d.value]


def plan_yaml(plan: Plan, base: Mapping[str, Any], head: Sequence[str]) -> str:
    """The text of the file.

    Args:
        base: the values of the config that it builds on, by dotted key.
        head: lines for people at its beginning.
    """
    lines = [part for line in head for part in _comment(line, "")]
    task, network, _, minutes = plan.reasons
    lines += _comment(f"{plan.task}: {task}", "")
    lines += _comment(f"{plan.network}: {network}", "")
    lines += _comment(f"{plan.minutes:g} minutes: {minutes}", "")
    lines.append(f"_BASE_: {plan.base}")
    kept = differing(plan.decisions, base)
    written = {d.key.partition(".")[0] for d in kept if not d.offered}
    kept = [d for d in kept if d.key.partition(".")[0] in written]  # no section of comments alone
    kept.sort(key=lambda d: _place(d.key))
    return "\n".join([*lines, *_sections(kept)]) + "\n"


def _place(key: str) -> tuple[int, str]:
    """Sections in their order, keys of a section together."""
    section, _, rest = key.partition(".")
    return ORDER.index(section) if section in ORDER else len(ORDER), rest.rpartition(".")[0]


def _sections(decisions: Sequence[Decision]) -> Iterator[str]:
    above: list[str] = []
    for decision in decisions:
        *parts, name = decision.key.split(".")
        same = 0
        while same < min(len(parts), len(above)) and parts[same] == above[same]:
            same += 1
        for depth in range(same, len(parts)):
            yield f"{'  ' * depth}{parts[depth]}:"
        above = parts
        indent = "  " * len(parts)
        yield from _comment(decision.reason, indent)
        yield f"{indent}{'# ' if decision.offered else ''}{name}: {in_yaml(decision.value)}"


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=start,
        break_long_words=False,
        break_on_hyphens=False,
    )


def in_yaml(value: Any) -> str:
    """A value in one line, as YAML reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
