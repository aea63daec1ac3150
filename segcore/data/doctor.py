"""What a data set holds, and all that is wrong with it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from segcore.data.catalog import Catalog
from segcore.data.check_records import file_faults
from segcore.data.instance_truth import InstanceTruth
from segcore.data.label_sample import sample_labels
from segcore.data.problem import ID_ZERO, UNLISTED, Problem, Report
from segcore.data.store import Records
from segcore.data.survey import Survey
from segcore.errors import DataError
from segcore.labels import frame_ids, lookup, lost_ids, refuse_bgr, semantic_map
from segcore.structures import Frame, Metadata, PngId, Record

KEPT = 1000  # problems of a kind; there may be millions, and nobody reads more


@dataclass(slots=True)
class Examination:
    """What `examine` saw.

    Args:
        metadata: the classes; None where not even they can be read.
        images: how many were read without a fault that spoils them.
        frames: how many these have; more where they are videos.
        empty: how many of these have neither a segment nor a label image.
        segments: how many there are.
        classes: how many segments, or label images, each class (0..K-1) has.
        counts: how many problems there are of each kind.
        problems: the first KEPT ones of each kind.
    """

    metadata: Metadata | None = None
    images: int = 0
    frames: int = 0
    empty: int = 0
    segments: int = 0
    classes: Counter[int] = field(default_factory=Counter[int])
    counts: Counter[str] = field(default_factory=Counter[str])
    problems: dict[str, list[Problem]] = field(default_factory=dict[str, list[Problem]])
    survey: Survey | None = None  # what `segcore train` says of it, too

    def add(self, problem: Problem) -> None:
        """One more: what readers report to."""
        if self.survey and problem.effect != "fault":
            self.survey.add(problem)
        self.counts[problem.kind] += 1
        alike = self.problems.setdefault(problem.kind, [])
        if len(alike) < KEPT:
            alike.append(problem)


def examine(
    catalog: Catalog, name: str, *, watch: Callable[[Records], Iterable[Record]] = iter
) -> Examination:
    """Read a data set to its end: every annotation, every file's head, every label's pixels.

    A fault is no error here: it is counted, and what it spoils is left out. Images with a missing
    file, or one of the wrong size, count as images; their labels are not looked at.

    Args:
        name: of the catalogue, or a path.
        watch: shows the progress over the records, such as rich.progress.track.
    """
    examination = Examination()
    try:
        examination.metadata = metadata = catalog.metadata(name)
        examination.survey = survey = Survey(metadata)
        records = catalog.read(name, examination.add, survey=survey)
        truth = _truth(catalog, name, examination.add)
    except DataError as fault:
        examination.add(_problem(fault, "data set that cannot be read", Path(name)))
        return examination
    for record in watch(records):
        segments = [s for frame in record.frames for s in frame.segments]
        examination.images += 1
        examination.frames += len(record.frames)
        examination.segments += len(segments)
        examination.empty += not segments and all(f.semantic is None for f in record.frames)
        examination.classes.update(s.category for s in segments)
        for problem in _problems(record, metadata, truth, examination.classes):
            examination.add(problem)
    for kind, message in _lessons(records, survey):
        examination.add(_problem(message, kind, Path(name)))
    return examination


def _lessons(records: Records, survey: Survey) -> Iterator[tuple[str, str]]:
    """Whether there is something to learn: what `segcore train` refuses, or warns of."""
    with suppress(DataError):  # of pixels that are no label: reported already
        survey.labels = sample_labels(records, survey.metadata)
    if refusal := survey.refusal():
        yield "nothing to train on", refusal
    elif survey.labels and (warning := survey.labels.trivial(survey.metadata)):
        yield "one answer is always right", warning


def _truth(catalog: Catalog, name: str, report: Report) -> InstanceTruth | None:
    """What AP is measured against, read to its end."""
    truth = catalog.truth(name)
    if truth is None:
        return None
    truth = InstanceTruth(truth.format, replace(truth.source, problem=report), truth.metadata)
    len(truth.records)
    return truth


def _problems(
    record: Record, metadata: Metadata, truth: InstanceTruth | None, classes: Counter[int]
) -> Iterator[Problem]:
    """Of one image.

    Args:
        classes: how often each occurs; those of a label image are added.
    """
    if truth is not None:
        try:
            truth(record)
        except DataError as fault:
            yield _problem(fault, "image of the instances file", truth.path, record.id)
    for frame in record.frames:
        wrong = [
            _problem(message, kind, file, record.id)
            for file, kind, message in file_faults(frame, record)
        ]
        yield from wrong or _label_problems(frame, record, metadata, classes)


def _label_problems(
    frame: Frame, record: Record, metadata: Metadata, classes: Counter[int]
) -> Iterator[Problem]:
    """Pixels of label images and panoptic PNGs that do not say what the annotation says."""
    if frame.semantic is not None:
        try:
            labels = semantic_map(frame, metadata)
        except DataError as fault:
            yield _problem(fault, "label values", frame.semantic, record.id)
        else:
            if not frame.segments:
                classes.update(np.flatnonzero(np.bincount(labels[labels >= 0])).tolist())
    numbers = [s.shape.id for s in frame.segments if isinstance(s.shape, PngId)]
    if numbers and frame.panoptic is not None:
        try:
            ids = frame_ids(frame)
            if lost := lost_ids(ids, numbers):
                refuse_bgr(ids, numbers, frame.panoptic)
        except DataError as fault:
            yield _problem(fault, "segment ids", frame.panoptic, record.id)
            return
        if lost:
            fault = f"{frame.panoptic}: has no pixel of {len(lost)} of {len(numbers)} segments"
            yield _problem(fault, "segment ids", frame.panoptic, record.id)
        yield from _odd_ids(ids, numbers, frame.panoptic, record.id)


def _odd_ids(
    ids: np.ndarray, numbers: list[int], path: Path, image: int | str
) -> Iterator[Problem]:
    """Of a panoptic PNG (H, W): pixels of no segment, and a segment where others see none."""
    stray = ids[(lookup(ids, dict.fromkeys(numbers, 0)) < 0) & (ids > 0)]
    if stray.size:
        others = np.unique(stray).tolist()
        some = ", ".join(map(str, others[:3])) + (", ..." if len(others) > 3 else "")
        message = f"{path}: {stray.size} pixels have an id ({some}) of none of its segments"
        yield Problem(message=message, path=path, kind=UNLISTED, image=image, effect="loss")
    if 0 in numbers:
        message = f"{path}: one of its segments has the id 0, which others take for no label"
        yield Problem(message=message, path=path, kind=ID_ZERO, image=image, effect="oddity")


def _problem(
    fault: DataError | str, kind: str, path: Path, image: int | str | None = None
) -> Problem:
    return Problem(message=str(fault), path=path, kind=kind, image=image)
