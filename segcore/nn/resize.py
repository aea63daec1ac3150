"""Mask logits at the original size, a band of columns at a time.

Published results come from two bilinear resizes: stride 4 to the padded input, cut, then to the
original size. Both are linear and separable, so each axis is one small matrix, and any columns of
the outcome can be had alone. Maps come out transposed: columns are what an RLE is made of.

Legend of one-letter names: N masks, H W output pixels, h w mask cells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from segcore.pinned import download, upload
from segcore.structures import Size

MIN_COLUMNS = 8  # thinner bands would waste the matrix product


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """How much of the result is made at a time.

    Args:
        values: of one band.
        columns: of one band, at most: `across` has the more zeros the wider it is.
        alone: masks go one by one, each in a small box of its own.
        waiting: bytes of masks that wait for a common copy to the host.
    """

    values: int
    columns: int
    alone: bool
    waiting: int


SMALL = Pieces(values=1 << 21, columns=64, alone=True, waiting=0)  # a CPU's cache holds them
# launches cost a GPU more than zeros and pixels
LARGE = Pieces(values=1 << 25, columns=1 << 30, alone=False, waiting=1 << 28)


@dataclass(frozen=True, slots=True)
class Upsampler:
    """How the mask cells of one view become output pixels.

    Args:
        canvas: padded input size.
        inside: input size without padding.
        size: output size.
        pieces: None: as suits the masks' device.
    """

    canvas: Size
    inside: Size
    size: Size
    pieces: Pieces | None = None

    def pieces_on(self, device: torch.device) -> Pieces:
        """Those asked for, or the device's."""
        return self.pieces or (SMALL if device.type == "cpu" else LARGE)

    def columns(self, maps: Tensor) -> Columns:
        """(N, h, w) -> its columns at the output size, made when asked for."""
        return next(self.parts(maps, max(1, len(maps))))

    def parts(self, maps: Tensor, count: int, positive: bool = False) -> Iterator[Columns]:
        """The same, for `count` maps at a time.

        Args:
            positive: only the box of output pixels where one of the maps may be above zero.
        """
        h, w = maps.shape[-2:]
        down = AxisResize.of(h, self.canvas[0], self.inside[0], self.size[0], maps.device)
        across = AxisResize.of(w, self.canvas[1], self.inside[1], self.size[1], maps.device)
        marked = marked_cells(maps) if positive else None
        pieces = self.pieces_on(maps.device)
        for first in range(0, max(1, len(maps)), count):
            these = slice(first, first + count)
            rows, columns = (0, self.size[0]), (0, self.size[1])
            if marked is not None:
                rows, columns = (
                    axis.touched(cells[these].any(0))
                    for axis, cells in zip((down, across), marked, strict=True)
                )
            begin, end = down.reads(*rows)
            part = maps[these, begin:end].transpose(1, 2)
            tall = part @ down.weights[begin:end, slice(*rows)]
            yield Columns(tall, across, rows, columns, pieces)


@dataclass(frozen=True, slots=True)
class AxisResize:
    """From columns of cells to output columns."""

    weights: Tensor  # (w, W) what each column of cells gives to each output column
    first: list[int]  # of each output column the first and last column of cells that it reads
    last: list[int]

    @classmethod
    def of(cls, w: int, canvas: int, inside: int, width: int, device: torch.device) -> AxisResize:
        weights = _axis(w, canvas, inside, width)
        used = (weights != 0).int()
        first, last = used.argmax(0), w - 1 - used.flip(0).argmax(0)
        return cls(upload(weights, device), first.tolist(), last.tolist())

    def reads(self, low: int, high: int) -> tuple[int, int]:
        """Range of the columns of cells that output columns low..high-1 are made of."""
        return (self.first[low], self.last[high - 1] + 1) if high > low else (0, 0)

    def touched(self, cells: Tensor) -> tuple[int, int]:
        """Range of output columns that read one of the marked cells, (w,) bool on the host."""
        marked = cells.nonzero().flatten().tolist()
        if not marked:
            return 0, 0
        return bisect_left(self.last, marked[0]), bisect_right(self.first, marked[-1])

    def __call__(self, cells: Tensor, low: int, high: int) -> Tensor:
        """(N, columns of cells, H), those that are read -> (N, high - low, H)."""
        begin, end = self.reads(low, high)
        return self.weights[begin:end, low:high].T @ cells

    def bands(
        self, column: int, pieces: Pieces, low: int = 0, high: int = -1
    ) -> Iterator[tuple[int, int]]:
        """Ranges of output columns, when each takes `column` values; they stay within `pieces`."""
        step = min(pieces.columns, max(MIN_COLUMNS, pieces.values // max(1, column)))
        high = self.weights.shape[1] if high < 0 else high
        return ((x, min(x + step, high)) for x in range(low, high, step))


@dataclass(frozen=True, slots=True)
class Columns:
    """Maps that have their full height already, or the part of it that matters."""

    tall: Tensor  # (N, w, rows)
    across: AxisResize
    rows: tuple[int, int]  # output rows that `tall` has
    columns: tuple[int, int]  # output columns that matter
    pieces: Pieces

    def __call__(self, low: int, high: int) -> Tensor:
        """Columns low..high-1 of all maps: (N, high - low, rows)."""
        begin, end = self.across.reads(low, high)
        return self.across(self.tall[:, begin:end], low, high)

    def bands(self, count: int | None = None) -> Iterator[tuple[int, int]]:
        """Column ranges of bounded size, when `count` maps (by default N) are held at a time."""
        column = (count or len(self.tall)) * self.tall.shape[2]
        return self.across.bands(column, self.pieces, *self.columns)


def marked_cells(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (..., h) and columns (..., w) in which maps (..., h, w) are above zero, on the host."""
    hit = maps > 0
    rows, columns = download(hit.any(-1), hit.any(-2))
    return rows, columns


def _axis(cells: int, canvas: int, inside: int, length: int) -> Tensor:
    """(cells, length): both resizes of one axis as a matrix."""
    each = torch.eye(cells)[None]  # (1, cells, cells)
    full = F.interpolate(each, canvas, mode="linear")
    return F.interpolate(full[..., :inside], length, mode="linear")[0]
