"""State dicts inside other modules: Lightning, DataParallel, torch.compile, averages of weights.

Content decides: every beginning that many names share is tried without, and the reading that
explains most of a model is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Value = TypeVar("Value")

# segments that wrappers put anywhere into a name, and no network has
INSIDE = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
MODULE = re.compile(r"(^|(?<=\.))module\.")  # DataParallel's; a network may have one of its own
DEPTH = 4  # of wrappers in wrappers
SHARE = 0.1  # of the tensors have a beginning that is worth a try: a network and its average


def unwrapped(state: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """The state dict as it is, then without what may be wrappers' beginnings of its names.

    Tensors that do not have the beginning keep their names, so that a report shows them.
    """
    plain = {INSIDE.sub("", name): value for name, value in state.items()}
    bare = {MODULE.sub("", name): value for name, value in plain.items()}
    for base in (plain,) if bare.keys() == plain.keys() else (plain, bare):
        yield base
        for start in _beginnings(base):
            inner = {k.removeprefix(start): v for k, v in base.items() if k.startswith(start)}
            yield inner | {k: v for k, v in base.items() if not k.startswith(start)}


def best_reading(
    state: Mapping[str, Value],
    readings: Iterable[Callable[[dict[str, Value]], dict[str, Value]]],
    wanted: Iterable[str],
) -> dict[str, Value]:
    """The state under the names that most of the wanted ones are among; earlier readings first.

    Args:
        readings: from a state dict without wrappers to one under the model's names.
    """
    wanted, readings = set(wanted), list(readings)
    most, best = -1, dict(state)
    for inner in unwrapped(state):
        for read in readings:
            named = read(inner)
            count = len(wanted & named.keys())
            if count > most:
                most, best = count, named
        if most == len(wanted):
            break
    return best


def _beginnings(names: Iterable[str]) -> list[str]:
    """Paths that many names begin with: short ones first, then as the file has them."""
    names = list(names)
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for depth in range(1, min(DEPTH, len(parts) - 1) + 1):
            counts[".".join(parts[:depth]) + "."] += 1
    common = [start for start, count in counts.items() if count >= SHARE * len(names)]
    return sorted(common, key=lambda start: start.count("."))
