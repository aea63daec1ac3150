"""Do compressed RLEs cover their images? Many texts at a time, because each is short.

pycocotools believes what it is given: where run lengths end early, the rest of the mask is memory
that nobody wrote.

Legend of one-letter names: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segcore.errors import DataError
from segcore.structures import Size

BITS, SIGN, MORE, FIRST = 5, 0x10, 0x20, 48  # of pycocotools' text form
LONGEST = 7  # characters of one number: 35 bits
BATCH = 64  # texts at a time; more of them leave the cache


@dataclass(slots=True)
class RleCheck:
    """Texts of one file, checked in batches; call `flush` after the last one."""

    path: Path
    texts: list[bytes] = field(default_factory=list[bytes])
    names: list[str] = field(default_factory=list[str])
    sizes: list[Size] = field(default_factory=list[Size])

    def add(self, text: bytes, what: str, size: Size) -> None:
        """A text that has to cover an image of `size`; `what` it is, for errors."""
        self.texts.append(text)
        self.names.append(what)
        self.sizes.append(size)
        if len(self.texts) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Raise DataError where one of the texts is wrong."""
        for i, fault in faults(self.texts, self.sizes).items():
            raise DataError(f"{self.path}: {self.names[i]} has {fault}")
        for each in (self.texts, self.names, self.sizes):
            each.clear()


def faults(texts: Sequence[bytes], sizes: Sequence[Sequence[int]]) -> dict[int, str]:
    """By index: what is wrong with a text, behind "annotation 7 has ..."; nearly always nothing.

    Args:
        sizes: height, width of the image of each.
    """
    if not texts:
        return {}
    sums, pixels = totals(texts), np.prod(np.asarray(sizes, np.int64), axis=1)
    wrong = {}
    for i in np.flatnonzero(sums != pixels).tolist():
        if sums[i] < 0:
            wrong[i] = "an RLE text that is broken; expected what pycocotools' encode writes"
        else:
            wrong[i] = total_fault(int(sums[i]), int(pixels[i]))
    return wrong


def check_total(total: int, size: Size, what: str, path: Path) -> None:
    """Raise DataError where run lengths do not cover the image."""
    if total != size[0] * size[1]:
        raise DataError(f"{path}: {what} has {total_fault(total, size[0] * size[1])}")


def total_fault(total: int, pixels: int) -> str:
    """What to say of run lengths that do not cover an image."""
    return f"run lengths that add up to {total}; expected height x width = {pixels}"


def totals(texts: Sequence[bytes]) -> np.ndarray:
    """(N,) sums of the run lengths; -1 where a text is none."""
    if not texts:
        return np.zeros(0, np.int64)
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - FIRST
    ends = np.cumsum([len(text) for text in texts])  # (N,)
    broken = _broken(codes, ends)
    if broken.any():
        sound = [b"0" if bad else t for t, bad in zip(texts, broken.tolist(), strict=True)]
        return np.where(broken, -1, totals(sound))
    is_last = (codes & MORE) == 0
    return _totals(_numbers(codes, is_last), np.diff(np.cumsum(is_last)[ends - 1], prepend=0))


def _broken(codes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(N,) bool: empty, other signs, an unfinished or an endless number."""
    empty = np.diff(ends, prepend=0) == 0
    if empty.any():
        return empty  # the others have their turn when these are gone
    wrong = (codes < 0) | (codes > 63)
    wrong[ends - 1] |= (codes[ends - 1] & MORE) != 0
    last = np.flatnonzero((codes & MORE) == 0)
    wrong[last] |= np.diff(last, prepend=-1) > LONGEST
    return np.bitwise_or.reduceat(wrong, np.append(0, ends[:-1]))


def _numbers(codes: np.ndarray, is_last: np.ndarray) -> np.ndarray:
    """Signed numbers, of which each character holds five bits, the lowest first."""
    last = np.flatnonzero(is_last)
    lengths = np.diff(last, prepend=-1)
    first = last - lengths + 1
    place = np.arange(codes.size) - np.repeat(first, lengths)
    values = np.add.reduceat((codes & 31) << BITS * place, first)
    return values - (((codes[last] & SIGN) != 0).astype(np.int64) << BITS * lengths)


def _totals(numbers: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(N,) sums of the runs of texts with `counts` numbers each; -1 where a run is negative.

    From its fourth on, a number is what is more than the run two before: after the first, the runs
    of a text are cumulative sums of two columns.
    """
    N, starts = len(counts), np.cumsum(counts) - counts
    rows = counts // 2
    row_of = np.cumsum(rows) - rows  # where each text begins
    places = np.arange(numbers.size) - np.repeat(starts, counts)
    cells = np.repeat(2 * row_of, counts) + places - 1
    grid = np.zeros((int(rows.sum()), 2), np.int64)
    grid.reshape(-1)[cells[places > 0]] = numbers[places > 0]
    runs = np.cumsum(grid, axis=0)
    before = np.concatenate([np.zeros((1, 2), np.int64), runs])[row_of]
    runs -= np.repeat(before, rows, axis=0)
    half = counts % 2 == 0  # the last row has no second number
    runs[(row_of + rows - 1)[half], 1] = 0
    text = np.repeat(np.arange(N), rows)
    sums = numbers[starts] + np.bincount(text, runs.sum(1), N).astype(np.int64)
    negative = (numbers[starts] < 0) | (np.bincount(text[(runs < 0).any(1)], minlength=N) > 0)
    return np.where(negative, -1, sums)
