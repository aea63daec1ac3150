"""A test set looked through before a training, whose end would be a bad time to find its faults."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from segcore.data.file_ends import end_fault
from segcore.data.images import THREADS, image_size
from segcore.data.instance_truth import InstanceTruth
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.structures import Frame, Metadata, Record

UNREADABLE = "file that cannot be read"
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
        for frame in record.frames:
            for _, _, message in file_faults(frame, record):
                return message
        if number % step == 0:
            _read_labels(record, metadata)
    except DataError as error:
        return str(error)
    return ""


def file_faults(frame: Frame, record: Record) -> Iterator[tuple[Path, str, str]]:
    """(file, kind, message) of files that are missing, cut off or of another size.

    Their first and last bytes alone are read, and what looks cut off there.
    """
    for file in (frame.file, frame.panoptic, frame.semantic):
        if file is None:
            continue
        try:
            size = image_size(file)
        except DataError as fault:
            yield file, UNREADABLE, str(fault)
            continue
        if fault := end_fault(file):
            yield file, UNREADABLE, fault
        elif size != record.size:
            yield file, "size", f"{file}: is {size} (height, width); expected {record.size}"


def _read_labels(record: Record, metadata: Metadata) -> None:
    for frame in record.frames:
        if frame.semantic is not None:
            semantic_map(frame, metadata)
        if frame.panoptic is not None and frame.segments:
            frame_ids(frame)
