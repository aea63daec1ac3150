"""From what was found to chapters of the page: the pictures are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.catalog import Catalog
from segcore.data.images import read_image
from segcore.data.parsing.json_stream import read_object
from segcore.data.survey import how_many
from segcore.doctor.checkup import Checkup
from segcore.doctor.finding import Case, Finding, by_severity
from segcore.doctor.page import Chapter
from segcore.doctor.pictures import annotated, entry_picture, segment_picture
from segcore.errors import DataError
from segcore.html_page import EDGE, Picture, data_uri, small
from segcore.painting import side_by_side

SHOWN = 4  # pictures of a finding
SAMPLES = 12

Entries = dict[int | str, dict[str, Any]]


def chapter(checkup: Checkup, catalog: Catalog, findings: Iterable[Finding]) -> Chapter:
    """Of one data set, with pictures of its findings and of its images.

    Args:
        findings: of this data set.
    """
    ordered = by_severity(findings)
    metadata, examination = checkup.metadata, checkup.examination
    title = checkup.name
    if metadata is not None:
        size = how_many(examination.images, examination.frames)
        title += f": {size}, {examination.segments} segments"
    made = Chapter(title, metadata, examination.classes)
    shown = [case for f in ordered for case in f.cases[:SHOWN] if case.annotation is not None]
    entries = _entries(checkup, catalog, {case.annotation for case in shown})
    for found in ordered:
        pictures = [_picture(case, checkup, entries) for case in found.cases[:SHOWN]]
        made.findings.append((found, pictures))
    return made


def random_images(checkup: Checkup, *, seed: int = 0) -> list[Picture]:
    """Whole images under their annotation, where no config says how they are seen."""
    records, metadata = checkup.passing.records, checkup.metadata
    if metadata is None:
        return []
    order = np.random.default_rng(seed).permutation(len(records))[:SAMPLES]
    pictures = []
    for i in order.tolist():
        record = records[i]
        pictures.append(made_picture(f"image {record.id}", partial(annotated, record, metadata)))
    return pictures


def made_picture(caption: str, make: Callable[[], np.ndarray], *, wide: bool = False) -> Picture:
    """With what `make` makes, or with the caption alone where a file cannot be read."""
    try:
        return Picture(caption, data_uri(small(make(), EDGE * (2 if wide else 1))), wide)
    except DataError:
        return Picture(caption)


def _picture(case: Case, checkup: Checkup, entries: Entries) -> Picture:
    """Of a case, as much as can be drawn."""
    record, metadata = checkup.passing.record(case.image), checkup.metadata
    if case.files:
        wide = len(case.files) > 1
        return made_picture(case.message, lambda: _beside(case.files), wide=wide)
    if record is None or metadata is None:
        return Picture(case.message)
    if case.segment is not None:
        index = case.segment
        return made_picture(case.message, lambda: segment_picture(record, index, metadata))
    if case.annotation in entries:
        entry, file = entries[case.annotation], record.frames[0].file
        return made_picture(case.message, lambda: entry_picture(file, entry))
    return made_picture(case.message, lambda: annotated(record, metadata))


def _beside(files: tuple[Path, ...]) -> np.ndarray:
    images = [small(read_image(file), 480) for file in files]
    return images[0] if len(images) == 1 else side_by_side(images, [file.name for file in files])


def _entries(checkup: Checkup, catalog: Catalog, numbers: set[int | str | None]) -> Entries:
    """Annotations as their file has them; nothing where it is no COCO file."""
    found: Entries = {}
    if not numbers or checkup.metadata is None:
        return found
    path = catalog.entry(checkup.name).source.annotations
    if path.suffix != ".json":
        return found

    def add(entry: Any) -> None:
        number = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(number, int | str) and number in numbers:
            found.setdefault(number, entry)

    read_object(path, {"annotations": add})
    return found
