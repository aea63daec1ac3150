"""From one file format to another: images are placed, masks made, losses counted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from segcore.data.catalog import Catalog
from segcore.data.formats.format import Format, Goal
from segcore.data.images import opened
from segcore.data.problem import Problem, Report
from segcore.data.still_segments import with_masks
from segcore.data.zip_files import zip_of
from segcore.errors import DataError
from segcore.structures import Metadata, Record


@dataclass(slots=True)
class Converted:
    """What a conversion wrote.

    Args:
        path: under which the data set is read again.
        images: how many there are.
        segments: how many were handed to the format, before its losses.
    """

    path: Path
    images: int = 0
    segments: int = 0


def convert(
    catalog: Catalog, name: str, *, format: Format, goal: Goal, problem: Report, link: bool = False
) -> Converted:
    """Write a data set in another format, its images beside it.

    Args:
        name: of the catalogue, or a path.
        goal: its split must not be there yet.
        problem: is given every fault of the source; unless it raises, what it spoils is left out.
        link: images become symbolic links in place of copies.

    Raises:
        DataError: nothing can be read, the format cannot be written, or the split is there.
    """
    if format.write is None:
        raise DataError(f"the format {format.name} is read alone; choose another one to write")
    if goal.images.exists():
        raise DataError(
            f"{goal.images}: is there already; choose another folder or split, or take it away"
        )
    metadata, records = catalog.metadata(name), catalog.read(name, problem)
    if len(records) == 0:
        raise DataError(f"{name}: has no image that can be used; nothing was written")
    if records.frames.max() > 1:
        raise DataError(f"{name}: holds videos; only images are converted")
    placing = _Placing(catalog.entry(name).source.images, goal, link)
    converted = Converted(goal.folder)
    placed = _placed(records, metadata, placing, problem, converted)
    converted.path = format.write(metadata, placed, goal)
    return converted


def _placed(
    records: Iterable[Record],
    metadata: Metadata,
    placing: _Placing,
    problem: Report,
    converted: Converted,
) -> Iterator[Record]:
    """Records with masks of their own, whose images lie below the goal."""
    for record in records:
        frame = record.frames[0]
        try:
            record = with_masks(record, metadata)
            file = placing(frame.file)
        except DataError as fault:
            message = Problem(message=str(fault), path=frame.file, kind="image", image=record.id)
            problem(message)
            continue
        if record.negatives or record.not_exhaustive:
            placing.goal.lost["images' lists of classes that are absent or annotated in part"] += 1
        converted.images += 1
        converted.segments += len(record.frames[0].segments)
        yield replace(record, frames=(replace(record.frames[0], file=file),))


class _Placing:
    """Images on their way below the goal, under names whose stems differ.

    Args:
        start: the folder below which their names are kept.
        goal: where they go.
        link: symbolic links in place of copies.
    """

    def __init__(self, start: Path, goal: Goal, link: bool) -> None:
        self.start, self.goal, self.link = start, goal, link
        self._stems: set[str] = set()

    def __call__(self, file: Path) -> Path:
        """Where it lies now."""
        name = self._name(file)
        target = self.goal.images / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.link and file.is_file():
            target.symlink_to(file.absolute())
            return target
        try:
            with opened(file) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except FileNotFoundError:
            raise DataError(f"{file}: image not found; it is left out") from None
        except OSError as error:
            raise DataError(f"{file}: cannot be copied to {target}: {error}") from None
        return target

    def _name(self, file: Path) -> PurePosixPath:
        archive = zip_of(file)
        file = Path(os.path.normpath(file))  # or a name with ".." would leave the goal
        for start in (self.start, *([archive] if archive else [])):
            folder = Path(os.path.normpath(start))
            if file.is_relative_to(folder):
                name = PurePosixPath(file.relative_to(folder))
                break
        else:
            name = PurePosixPath(file.name)
        free, number = name, 1
        while str(free.with_suffix("")).lower() in self._stems:
            number += 1
            free = name.with_stem(f"{name.stem}-{number}")
        self._stems.add(str(free.with_suffix("")).lower())
        return free
