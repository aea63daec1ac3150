"""One line of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Decision:
    """A key of the config, the value that it gets, and why.

    Args:
        offered: the line is written as a comment, for people to take or leave.
    """

    key: str
    value: Any
    reason: str
    offered: bool = False


def merged(decisions: Iterable[Decision], more: Iterable[Decision]) -> list[Decision]:
    """All of them; of two about a key the later one counts, in the earlier one's place."""
    by_key = {decision.key: decision for decision in decisions}
    return list((by_key | {decision.key: decision for decision in more}).values())


def rounded_up(number: float, step: int) -> int:
    """The next multiple of `step`."""
    return -int(-number // step) * step


def rounded(number: float, step: int) -> int:
    """The nearest multiple of `step`, at least one."""
    return max(1, int(number / step + 0.5)) * step
