"""Names of others and ours, both ways, by tables of their beginnings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

Rows = Sequence[tuple[str, str]]  # (official, ours): beginnings of names; {} is a number


def renamed(name: str, table: Rows, *, to_ours: bool) -> str:
    """An official name -> ours, or ours -> official, by the first row that it begins with.

    A name that begins with no row stays.
    """
    for official, ours in table:
        source, goal = (official, ours) if to_ours else (ours, official)
        if match := _pattern(source).match(name):
            return goal.format(*match.groups()) + name[match.end() :]
    return name


@cache
def _pattern(beginning: str) -> re.Pattern[str]:
    return re.compile(re.escape(beginning).replace(r"\{\}", r"(\d+)"))
