"""COCO detection JSON: polygons, both forms of RLE, crowds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segcore import masks
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
from segcore.data.formats.coco_writing import categories, image_entry, numbered
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.image_names import ImageFiles
from segcore.data.parsing.run_lengths import BATCH, faults
from segcore.data.parsing.shapes import is_compressed, shape_of
from segcore.data.parsing.values import flag, get, real, typed, whole
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images without objects stay; annotations without an area do not."""
    path = source.annotations
    file_of = ImageFiles(image_folder(source.images), path)
    content = CocoFile(path, values_of(path), what="annotation", problem=source.problem)
    return records_of(content, metadata, file_of)


def records_of(
    content: CocoFile, metadata: Metadata, file_of: Callable[[str], Path]
) -> Iterator[Record]:
    """Records of a file that keeps what `values_of` says.

    Args:
        file_of: from the name of an image to where it lies.
    """
    segments = Segments(content, metadata)
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
    segments.warn()


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
class Segments:
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
        segments = []
        for number, category, value, crowd, area in self.content.annotations(image):
            label = self.label(category, image, number)
            if label is None:
                continue
            shape = self.shape(value, size, image, number)
            if shape is not None:
                segments.append(Segment(label, shape, crowd, area))
        return tuple(segments)

    def label(self, category: int, image: ImageId, number: int | str | None) -> int | None:
        """The contiguous class of an annotation."""
        label = self.known.get(category)
        if label is None:
            content, what = self.content, named("annotation", number)
            where = f"{content.path}: {what} of {content.word} {image}"
            message = unknown_category(category, where, self.metadata)
            content.report(message, "category", image=image, annotation=number)
        return label

    def shape(
        self, value: Any, size: Size, image: ImageId, number: int | str | None
    ) -> Polygons | Rle | None:
        """A segmentation; the RLE texts among them are looked at by `checked`."""
        content = self.content
        try:
            shape = shape_of(value, size, named("annotation", number), content.path)
        except DataError as fault:
            content.report(str(fault), "segmentation", image=image, annotation=number)
            return None
        if shape is None:
            self.shapeless += 1
        elif not isinstance(shape, Polygons) and is_compressed(value):
            self.compressed.append((shape, image, number))
        return shape

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

    def warn(self) -> None:
        """At the end: how much was nothing but points and lines."""
        if self.shapeless:
            logger.warning(
                "%s: %d annotations have no polygon of an area; dropped",
                self.content.path,
                self.shapeless,
            )


def _without(broken: set[int], record: Record) -> Record:
    """Args: broken: `id` of RLEs."""
    frames = tuple(
        replace(f, segments=tuple(s for s in f.segments if id(s.shape) not in broken))
        for f in record.frames
    )
    return replace(record, frames=frames)


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`annotations/instances_<split>.json`: everything as it is."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, record in numbered(records):
        images.append(image_entry(image, record, goal))
        for segment in record.frames[0].segments:
            entry = _annotation(segment, record, metadata)
            annotations.append({"id": len(annotations) + 1, "image_id": image, **entry})
    path = goal.folder / "annotations" / f"instances_{goal.split}.json"
    content = {"images": images, "annotations": annotations, "categories": categories(metadata)}
    with whole_file(path, "w") as stream:
        json.dump(content, stream)
    return path


def _annotation(segment: Segment, record: Record, metadata: Metadata) -> dict[str, Any]:
    shape, rle = segment.shape, to_rle(segment, record.frames[0], record.size)
    x0, y0, x1, y1 = masks.boxes([rle])[0].tolist()
    polygons = isinstance(shape, Polygons)
    return {
        "category_id": metadata.dataset_ids[segment.category],
        "segmentation": [list(ring) for ring in shape.rings] if polygons else masks.to_text(rle),
        "area": int(masks.area([rle])[0]) if segment.area is None else segment.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "iscrowd": int(segment.crowd),
    }


FORMAT = Format(
    name="coco_instances",
    read=read,
    recognises=looks_like_json,
    images_beside=images_beside,
    classes=lambda source: classes_of_file(source.annotations),
    annotated=lambda source: head_of(source.annotations).annotated,
    evaluators=("instance", "boundary"),
    first_id=1,
    write=write,
)
