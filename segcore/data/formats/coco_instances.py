"""COCO detection JSON: polygons, both forms of RLE, crowds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from segcore import masks
from segcore.data.folders import image_folder
from segcore.data.formats.coco_annotations import Sifted, sifted, values_of
from segcore.data.formats.coco_file import (
    CocoFile,
    ImageId,
    class_of,
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
from segcore.data.parsing.shape_doubts import Doubt, doubt_of, doubt_of_area
from segcore.data.parsing.shapes import shape_of, unpacked
from segcore.data.problem import ASTRAY, ODDITIES, Effect
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Polygons, Record, Rle, Segment, Size
from segcore.whole_file import whole_file


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
    for image, name, size, kept in sifted(content):
        frame = Frame(file_of(name), segments.of(image, size, kept))
        record = Record(image, size, (frame,))
        if not waiting and not segments.rles:  # polygons are packed while they are warm
            yield record
            continue
        waiting.append(record)
        if len(segments.rles) >= BATCH or len(waiting) >= BATCH:
            yield from segments.checked(waiting)
            waiting = []
    yield from segments.checked(waiting)


class Annotation(NamedTuple):
    """What a file says of one object, besides its shape."""

    label: int  # contiguous class
    image: ImageId
    number: int | str | None
    crowd: bool
    area: float | None = None
    box: Any = None  # x y width height, unchecked


@dataclass(slots=True)
class Segments:
    """The segments of a file's images; what is wrong is reported and left out."""

    content: CocoFile
    metadata: Metadata
    known: dict[int, int] = field(init=False)
    rles: list[tuple[Rle, Annotation]] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.known = class_of(self.metadata)

    def of(self, image: ImageId, size: Size, annotations: Sifted) -> tuple[Segment, ...]:
        """Those of an image, in the file's order.

        Args:
            annotations: each with False where it is known to be in order, a packed polygon.
        """
        segments = []
        for (number, category, value, crowd, area, box), doubted in annotations:
            label = self.label(category, image, number)
            if label is None:
                continue
            if doubted:
                shape = self.shape(value, size, Annotation(label, image, number, crowd, area, box))
            else:
                shape = unpacked(value)
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

    def shape(self, value: Any, size: Size, of: Annotation) -> Polygons | Rle | None:
        """A segmentation, held to the image and to what the file says of it; `checked` does the
        same for RLEs."""
        content = self.content
        if type(value) is tuple:
            value = [list(ring) for ring in unpacked(value).rings]
        try:
            shape = shape_of(value, size, named("annotation", of.number), content.path)
        except DataError as fault:
            content.report(str(fault), "segmentation", image=of.image, annotation=of.number)
            return None
        if shape is not None and not isinstance(shape, Polygons):
            self.rles.append((shape, of))
            return shape
        doubt = None if of.crowd else doubt_of(value, shape, size, area=of.area, box=of.box)
        if doubt is not None:
            self._report(doubt, of)
        return None if doubt is not None and doubt[0] == ASTRAY else shape

    def checked(self, records: list[Record]) -> list[Record]:
        """The same records without the RLEs that do not cover their image."""
        shapes = [rle for rle, _ in self.rles]
        wrong = faults([rle["counts"] for rle in shapes], [rle["size"] for rle in shapes])
        broken: set[int] = set()
        for i, fault in wrong.items():
            rle, of = self.rles[i]
            message = f"{self.content.path}: {named('annotation', of.number)} has {fault}"
            self.content.report(message, "segmentation", image=of.image, annotation=of.number)
            broken.add(id(rle))
        sound = [pair for i, pair in enumerate(self.rles) if i not in wrong and not pair[1].crowd]
        areas = masks.area([rle for rle, _ in sound]).tolist() if sound else []
        for area, (_, of) in zip(areas, sound, strict=True):
            if doubt := doubt_of_area(area, of.area):
                self._report(doubt, of)
        self.rles.clear()
        return [_without(broken, record) for record in records] if broken else records

    def _report(self, doubt: Doubt, of: Annotation) -> None:
        """A loss or an oddity on its way to whoever counts them."""
        (kind, text), content = doubt, self.content
        what = f"{named('annotation', of.number)} of {content.word} {of.image}"
        effect: Effect = "fault" if kind == ASTRAY else "oddity" if kind in ODDITIES else "loss"
        content.report(
            f"{content.path}: {what} {text}",
            kind,
            image=of.image,
            annotation=of.number,
            category=of.label,
            effect=effect,
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
