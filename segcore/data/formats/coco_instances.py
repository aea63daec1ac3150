"""COCO detection JSON: polygons, both forms of RLE, crowds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segcore.data.folders import image_folder
from segcore.data.formats.coco_file import (
    CocoFile,
    ImageId,
    class_of,
    id_in,
    named,
    unknown_category,
)
from segcore.data.formats.coco_head import (
    classes_of_file,
    head_of,
    images_beside,
    looks_like_json,
)
from segcore.data.formats.format import Format, Source
from segcore.data.parsing.run_lengths import BATCH, faults
from segcore.data.parsing.shapes import is_compressed, shape_of
from segcore.data.parsing.values import flag, get, real, typed, whole
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size

logger = logging.getLogger(__name__)


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images without objects stay; annotations without an area do not."""
    path, folder = source.annotations, image_folder(source.images)
    content = CocoFile(path, values_of(path), what="annotation", problem=source.problem)
    return records_of(content, metadata, lambda name: folder / name)


def records_of(
    content: CocoFile, metadata: Metadata, file_of: Callable[[str], Path]
) -> Iterator[Record]:
    """Records of a file that keeps what `values_of` says.

    Args:
        file_of: from the name of an image to where it lies.
    """
    segments = _Segments(content, metadata)
    waiting: list[Record] = []  # until all their RLEs have been looked at
    for image, (name, size) in content.images.items():
        frame = Frame(file_of(name), segments.of(image, size))
        record = Record(image, size, (frame,))
        if not waiting and not segments.compressed:  # polygons are packed while they are warm
            yield record
            continue
        waiting.append(record)
        if len(segments.compressed) >= BATCH or len(waiting) >= BATCH:
            yield from segments.checked(waiting)
            waiting = []
    yield from segments.checked(waiting)
    if segments.shapeless:
        logger.warning(
            "%s: %d annotations have no polygon of an area; dropped",
            content.path,
            segments.shapeless,
        )


def values_of(path: Path) -> Callable[[Any], tuple[Any, ...]]:
    """Of an annotation: its number, category, shape, whether it is a crowd, its area."""

    def values(entry: Any) -> tuple[Any, ...]:
        number = id_in(entry, "id")
        what = named("annotation", number) if isinstance(entry, dict) else "an annotation"
        category = typed(entry, "category_id", whole, what, path)
        shape = get(entry, "segmentation", what, path)
        crowd = typed(entry, "iscrowd", flag, what, path, default=False)
        return number, category, shape, crowd, typed(entry, "area", real, what, path, default=None)

    return values


@dataclass(slots=True)
class _Segments:
    """The segments of a file's images; what is wrong is reported and left out."""

    content: CocoFile
    metadata: Metadata
    known: dict[int, int] = field(init=False)
    compressed: list[tuple[Rle, ImageId, int | str | None]] = field(default_factory=list[Any])
    shapeless: int = 0

    def __post_init__(self) -> None:
        self.known = class_of(self.metadata)

    def of(self, image: ImageId, size: Size) -> tuple[Segment, ...]:
        """Those of an image, in the file's order."""
        path, segments = self.content.path, []
        for number, category, value, crowd, area in self.content.annotations(image):
            what = named("annotation", number)
            if category not in self.known:
                where = f"{path}: {what} of image {image}"
                message = unknown_category(category, where, self.metadata)
                self.content.report(message, "category", image=image, annotation=number)
                continue
            try:
                shape = shape_of(value, size, what, path)
            except DataError as fault:
                message = str(fault)
                self.content.report(message, "segmentation", image=image, annotation=number)
                continue
            if shape is None:
                self.shapeless += 1
                continue
            if not isinstance(shape, Polygons) and is_compressed(value):
                self.compressed.append((shape, image, number))
            segments.append(Segment(self.known[category], shape, crowd, area))
        return tuple(segments)

    def checked(self, records: list[Record]) -> list[Record]:
        """The same records without the compressed RLEs that do not cover their image."""
        wrong = faults(
            [rle["counts"] for rle, _, _ in self.compressed],
            [rle["size"] for rle, _, _ in self.compressed],
        )
        broken: set[int] = set()
        for i, fault in wrong.items():
            rle, image, number = self.compressed[i]
            message = f"{self.content.path}: {named('annotation', number)} has {fault}"
            self.content.report(message, "segmentation", image=image, annotation=number)
            broken.add(id(rle))
        self.compressed.clear()
        return [_without(broken, record) for record in records] if broken else records


def _without(broken: set[int], record: Record) -> Record:
    """Args: broken: `id` of RLEs."""
    frame = record.frames[0]
    segments = tuple(s for s in frame.segments if id(s.shape) not in broken)
    return replace(record, frames=(replace(frame, segments=segments),))


FORMAT = Format(
    name="coco_instances",
    read=read,
    recognises=looks_like_json,
    images_beside=images_beside,
    classes=lambda source: classes_of_file(source.annotations),
    annotated=lambda source: head_of(source.annotations).annotated,
    evaluators=("instance", "boundary"),
    first_id=1,
)
