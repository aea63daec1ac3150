"""A test set looked through before a training, whose end would be a bad time to find its faults."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from segcore.data.doctor import file_problems
from segcore.data.images import THREADS
from segcore.data.instance_truth import InstanceTruth
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.structures import Metadata, Record

DEEP = 500  # images whose labels are read to the last pixel; of more an even share is


def check_records(records: Records, metadata: Metadata, truth: InstanceTruth | None) -> None:
    """DataError for the first image that an evaluation would fail at.

    Every file's head is read; the labels' pixels of up to `DEEP` images too.

    Args:
        truth: what AP is measured against, where that is a file of its own.
    """
    if not len(records):
        raise DataError(f"{metadata.name}: has no image; expected some to evaluate on")
    if truth is not None:
        len(truth.records)  # read once, before threads ask for them
    step = -(-len(records) // DEEP)
    look = partial(_fault_of, records=records, metadata=metadata, truth=truth, step=step)
    with ThreadPoolExecutor(THREADS) as pool:
        for fault in pool.map(look, range(len(records))):
            if fault:
                pool.shutdown(cancel_futures=True)
                raise DataError(fault)


def _fault_of(
    number: int, *, records: Records, metadata: Metadata, truth: InstanceTruth | None, step: int
) -> str:
    record = records[number]
    try:
        if truth is not None:
            truth(record)
        fault = next(_file_faults(record), "")
        if not fault and number % step == 0:
            _read_labels(record, metadata)
    except DataError as error:
        return str(error)
    return fault


def _file_faults(record: Record) -> Iterator[str]:
    for frame in record.frames:
        for problem in file_problems(frame, record):
            yield problem.message


def _read_labels(record: Record, metadata: Metadata) -> None:
    for frame in record.frames:
        if frame.semantic is not None:
            semantic_map(frame, metadata)
        if frame.panoptic is not None and frame.segments:
            frame_ids(frame)
