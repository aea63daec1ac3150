"""A fifth of a data set held back for evaluation, where nobody has split it: NAME#train, NAME#val.

Which images these are hangs on their names alone: the same on every machine and in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import numpy as np

from segcore.data.formats.format import Format, Source
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.structures import Metadata, Record

SHARE = 5  # one of so many images is held back
TRAIN, VAL = "train", "val"

Read = Callable[[Source, Metadata], Iterator[Record]]


def split_part(name: str) -> tuple[str, str]:
    """The data set of a name, and which part of it is meant: TRAIN, VAL, or "" for all of it."""
    whole, _, part = name.rpartition("#")
    return (whole, part) if whole and part in (TRAIN, VAL) else (name, "")


def part_of(format: Format, part: str) -> Format:
    """A format that reads one part of what the other reads."""
    return replace(format, read=partial(_read, format.read, part), write=None)


def held_back(names: Sequence[str]) -> np.ndarray:
    """(N,) bool: the fifth of N images (at least one) whose names come first by their digests."""
    order = sorted(range(len(names)), key=lambda i: (blake2b(names[i].encode()).digest(), i))
    held = np.zeros(len(names), bool)
    held[order[: max(1, round(len(names) / SHARE))]] = True
    return held


def _read(read: Read, part: str, source: Source, metadata: Metadata) -> Iterator[Record]:
    records = Records(read(source, metadata))
    held = held_back([f"{r.id} {r.frames[0].file.name}" for r in records])
    if len(held) == 1:
        raise DataError(
            f"{source.annotations}: has one image, of which no part can be held back; name a data"
            " set to evaluate on"
        )
    return (records[int(i)] for i in np.flatnonzero(held == (part == VAL)))
