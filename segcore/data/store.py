"""A data set at rest: one buffer of packed records that forked workers share page by page."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from segcore.structures import Record


class Records(Sequence[Record]):
    """Records, packed; one is made when it is asked for.

    Millions of Python objects would be copied into every worker by their reference counts; one
    array of bytes is not. The pickles are our own and never leave the process.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        buffer = bytearray()
        offsets = [0]
        for record in records:
            buffer += pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
            offsets.append(len(buffer))
        self._buffer = np.frombuffer(buffer, np.uint8)
        self._offsets = np.asarray(offsets, np.int64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        low, high = self._offsets[index % len(self) : index % len(self) + 2]
        return pickle.loads(self._buffer[low:high].tobytes())

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))
