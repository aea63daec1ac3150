"""A data set at rest: one buffer of packed records that all workers share."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from segcore.structures import Frame, PngId, Polygons, Record, Rle, Segment

HUNDREDTHS = 100  # COCO writes coordinates with two decimals: four bytes instead of eight


class Records(Sequence[Record]):
    """Records, packed; one is made when it is asked for.

    Millions of Python objects would be copied into every forked worker by their reference counts;
    one tensor of bytes is not, and a worker that is spawned gets it as shared memory. What is
    pickled here are plain values of our own, and the bytes never leave the program.
    """

    sizes: np.ndarray  # (N, 2) int32 height and width
    usable: np.ndarray  # (N,) bool: there is something to train on, crowds do not count
    frames: np.ndarray  # (N,) int32 how many each has: 1 for a still
    part: np.ndarray  # (N,) int32 which of the joined data sets each is from

    def __init__(self, records: Iterable[Record] = ()) -> None:
        buffer, ends = bytearray(), [0]
        sizes: list[tuple[int, int]] = []
        usable: list[bool] = []
        frames: list[int] = []
        for record in records:
            buffer += pickle.dumps(_pack(record), protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(len(buffer))
            sizes.append(record.size)
            usable.append(_is_usable(record))
            frames.append(len(record.frames))
        edges = np.asarray(ends, np.int64)
        self._buffer = torch.frombuffer(buffer or bytearray(1), dtype=torch.uint8)
        self._spans = np.stack([edges[:-1], edges[1:]], 1)  # (N, 2) where each one lies
        self.sizes = np.asarray(sizes, np.int32).reshape(-1, 2)
        self.usable = np.asarray(usable, bool)
        self.frames = np.asarray(frames, np.int32)
        self.part = np.zeros(len(frames), np.int32)

    def take(self, which: np.ndarray) -> Records:
        """Some of them, by index or (N,) bool, in the same buffer."""
        columns = (self._spans, self.sizes, self.usable, self.frames, self.part)
        return _with(self._buffer, *(column[which] for column in columns))

    @staticmethod
    def join(parts: Sequence[Records]) -> Records:
        """Several data sets as one."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(p._buffer) for p in parts[:-1])])
        return _with(
            torch.cat([p._buffer for p in parts]),
            np.concatenate([p._spans + s for p, s in zip(parts, starts, strict=True)]),
            np.concatenate([p.sizes for p in parts]),
            np.concatenate([p.usable for p in parts]),
            np.concatenate([p.frames for p in parts]),
            np.repeat(np.arange(len(parts), dtype=np.int32), [len(p) for p in parts]),
        )

    def classes(self) -> Iterator[set[int]]:
        """Which classes occur in each, crowds included; no shape is unpacked."""
        for low, high in self._spans:
            frames = pickle.loads(self._buffer[low:high].numpy().data)[2]
            yield {segment[0] for frame in frames for segment in frame[3]}

    @property
    def nbytes(self) -> int:
        """Bytes of the packed records."""
        return len(self._buffer)

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        low, high = self._spans[index]
        return _unpack(pickle.loads(self._buffer[low:high].numpy().data))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))


def _with(
    buffer: torch.Tensor,
    spans: np.ndarray,
    sizes: np.ndarray,
    usable: np.ndarray,
    frames: np.ndarray,
    part: np.ndarray,
) -> Records:
    records = Records()
    records._buffer, records._spans = buffer, spans
    records.sizes, records.usable, records.frames, records.part = sizes, usable, frames, part
    return records


def _is_usable(record: Record) -> bool:
    return any(
        frame.semantic is not None or any(not s.crowd for s in frame.segments)
        for frame in record.frames
    )


def _pack(record: Record) -> tuple[Any, ...]:
    frames = tuple(_pack_frame(frame) for frame in record.frames)
    return record.id, tuple(record.size), frames, record.negatives, record.not_exhaustive


def _pack_frame(frame: Frame) -> tuple[Any, ...]:
    """Plain values; the coordinates of all its polygons lie in one run of bytes."""
    rings = (s.shape.rings for s in frame.segments if isinstance(s.shape, Polygons))
    numbers = list(chain.from_iterable(chain.from_iterable(rings)))
    exact = np.array(array("d", numbers))  # a third of the time that NumPy takes for a list
    rounded = np.rint(exact * HUNDREDTHS)
    # the sum of squares says in one call that no number is over 31 bits
    small = bool(rounded @ rounded < 2.0**62 and (rounded / HUNDREDTHS == exact).all())
    return (
        str(frame.file),
        frame.panoptic and str(frame.panoptic),
        frame.semantic and str(frame.semantic),
        tuple((s.category, _pack_shape(s.shape), s.crowd, s.area, s.track) for s in frame.segments),
        small,
        (rounded.astype(np.int32) if small else exact).tobytes(),
    )


def _pack_shape(shape: Rle | Polygons | PngId) -> Any:
    """An int: a PngId; bytes in a tuple: an RLE; else the lengths of a polygon's rings."""
    if isinstance(shape, PngId):
        return int(shape.id)
    if isinstance(shape, Polygons):
        return tuple(len(ring) for ring in shape.rings)
    return shape["counts"], *shape["size"]


def _unpack(packed: tuple[Any, ...]) -> Record:
    number, size, frames, negatives, not_exhaustive = packed
    return Record(
        number, size, tuple(_unpack_frame(frame) for frame in frames), negatives, not_exhaustive
    )


def _unpack_frame(packed: tuple[Any, ...]) -> Frame:
    file, panoptic, semantic, segments, small, data = packed
    values = np.frombuffer(data, np.int32) / HUNDREDTHS if small else np.frombuffer(data)
    numbers = iter(values.tolist())
    return Frame(
        Path(file),
        tuple(
            Segment(category, _unpack_shape(shape, numbers), crowd, area, track)
            for category, shape, crowd, area, track in segments
        ),
        Path(panoptic) if panoptic else None,
        Path(semantic) if semantic else None,
    )


def _unpack_shape(shape: Any, numbers: Iterator[float]) -> Rle | Polygons | PngId:
    if isinstance(shape, int):
        return PngId(shape)
    if shape and isinstance(shape[0], bytes):
        return {"size": list(shape[1:]), "counts": shape[0]}
    return Polygons(tuple(tuple(islice(numbers, n)) for n in shape))
