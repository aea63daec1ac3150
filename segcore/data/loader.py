"""Infinite, seeded, rank-aware, resumable training batches; one-pass test batches.

What a training sample looks like depends on the seed and its place in the stream alone, not on the
number of workers, so a resumed run sees exactly what an unbroken one would.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from segcore.contracts import ViewSampler
from segcore.data.packed import PackedBatch
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.structures import Batch, Record

logger = logging.getLogger(__name__)

MAX_EMPTY = 100  # records in a row that give no sample before we say so


@dataclass(frozen=True, slots=True)
class Failure:
    """A user's error on its way out of a worker process."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which record comes when.

    Args:
        count: of the records.
        wide: (count,) whether a record's image is; then all of a batch are, or none.
        repeats: (count,) from 1: how often each record is seen in an epoch, in the mean.
    """

    count: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    wide: Sequence[bool] | None = None
    repeats: np.ndarray | None = None

    def stream(self) -> Iterator[tuple[int, int]]:
        """Endless (place in the stream, record index): seeded permutations, strided by rank."""
        place, first, epoch = self.rank, 0, 0  # first: place where the epoch begins
        order = self._epoch(epoch)
        while True:
            while place >= first + len(order):
                first, epoch = first + len(order), epoch + 1
                order = self._epoch(epoch)
            yield place, int(order[place - first])
            place += self.world_size

    def _epoch(self, epoch: int) -> np.ndarray:
        """Indices in the order of one epoch; a record of factor 2.3 is there two or three times."""
        rng = np.random.default_rng((self.seed, epoch))
        if self.repeats is None:
            return rng.permutation(self.count)
        whole = np.floor(self.repeats)
        times = whole + (rng.random(self.count) < self.repeats - whole)
        return rng.permutation(np.repeat(np.arange(self.count), times.astype(np.int64)))

    def batches(self) -> Iterator[list[tuple[int, int]]]:
        """Endless batches of the stream."""
        buckets: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        for place, index in self.stream():
            bucket = buckets[bool(self.wide[index]) if self.wide is not None else False]
            bucket.append((place, index))
            if len(bucket) == self.batch_size:
                yield list(bucket)
                bucket.clear()


class _TrainStream(IterableDataset[Any]):
    """Batches of one rank; worker w of n makes every n-th, so their order is the plan's."""

    def __init__(
        self, records: Sequence[Record], views: ViewSampler, plan: Plan, start: int
    ) -> None:
        self.records, self.views, self.plan, self.start = records, views, plan, start

    def __iter__(self) -> Iterator[Batch | PackedBatch | Failure]:
        worker = get_worker_info()
        number, total = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, batch in enumerate(self.plan.batches()):
            if i >= self.start and (i - self.start) % total == number:
                try:
                    yield _handed_on(Batch.collate([self._sample(*each) for each in batch]))
                except DataError as error:
                    yield Failure(str(error))

    def _sample(self, place: int, index: int):
        """The record at `index`; where nothing of it can be used, the ones after it."""
        for step in range(MAX_EMPTY):
            rng = np.random.default_rng((self.plan.seed, place, step))
            record = self.records[(index + step) % len(self.records)]
            sample = self.views(record, rng)
            if sample is not None:
                return sample
        raise DataError(
            f"{MAX_EMPTY} records in a row from number {index} give nothing to train on"
        )


def train_loader(
    records: Records,
    views: ViewSampler,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    start: int = 0,
    group_by_aspect: bool = True,
    repeats: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Endless training batches of one rank.

    Args:
        start: batches that an earlier run has consumed already; skipped without reading a pixel.
        group_by_aspect: wide images share batches with wide ones, so that less is padded.
        repeats: (N,) from 1: how often each record is seen in an epoch, in the mean; None: once.
    """
    if not len(records):
        raise DataError("the training set has no image with a usable annotation")
    grouped = group_by_aspect and batch_size > 1
    wide = (records.sizes[:, 1] > records.sizes[:, 0]).tolist() if grouped else None
    plan = Plan(
        count=len(records),
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        wide=wide,
        repeats=repeats,
    )
    loader = _loader(_TrainStream(records, views, plan, start), num_workers)
    return _unpacked(loader)


class _TestStream(IterableDataset[Any]):
    def __init__(self, records: Sequence[Record], views: ViewSampler, batches: list[range]) -> None:
        self.records, self.views, self.batches = records, views, batches

    def __iter__(self) -> Iterator[Batch | PackedBatch | Failure]:
        worker = get_worker_info()
        number, total = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in self.batches[number::total]:
            try:
                samples = [self.views(self.records[i], None) for i in batch]
                yield _handed_on(Batch.collate([s for s in samples if s is not None]))
            except DataError as error:
                yield Failure(str(error))


class TestLoader:
    """One pass over a rank's contiguous share; nothing is seen twice."""

    __test__ = False  # not one of pytest's

    def __init__(
        self,
        records: Sequence[Record],
        views: ViewSampler,
        *,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        low, high = (len(records) * i // world_size for i in (rank, rank + 1))
        batches = [range(i, min(i + batch_size, high)) for i in range(low, high, batch_size)]
        self.batches = batches
        self.stream = _TestStream(records, views, batches)
        self.num_workers = min(num_workers, len(batches))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return _unpacked(_loader(self.stream, self.num_workers))


def _for_gpu() -> bool:
    return torch.cuda.is_available()


def _loader(dataset: IterableDataset[Any], num_workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=2 if num_workers else None,
        worker_init_fn=_leave_signals_to_parent,
        pin_memory=_for_gpu(),
        generator=torch.Generator(),  # or it would draw from the generator that a resume restores
    )


def _leave_signals_to_parent(worker: int) -> None:
    """Where a signal goes to all processes (Slurm, systemd, Ctrl-C), the parent ends its workers.

    Without it a training that has been asked to stop would lose its workers in the middle of the
    step, and end without a checkpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_parent_asks, daemon=True).start()


def _end_when_parent_asks() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass  # somebody else's
    os._exit(0)  # as torch does it


def _handed_on(batch: Batch) -> Batch | PackedBatch:
    """Packed where it leaves a worker, or goes to a GPU."""
    works = get_worker_info() is not None
    return PackedBatch.pack(batch, shared=works) if works or _for_gpu() else batch


def _unpacked(loader: Iterable[Batch | PackedBatch | Failure]) -> Iterator[Batch]:
    for item in loader:
        if isinstance(item, Failure):
            raise DataError(item.message)
        yield item.unpack() if isinstance(item, PackedBatch) else item
