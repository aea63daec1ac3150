"""COCO's two formats, detection and panoptic, packed while the file is being parsed."""

from __future__ import annotations

import logging
import marshal
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore import masks
from segcore.data.json_stream import read_object
from segcore.data.sources import Spec, folder_of, image_folder
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, PngId, Polygons, Record, Rle, Segment, Size

logger = logging.getLogger(__name__)

ImageId = int | str


class CocoFile:
    """Images of an annotation file, and its annotations grouped by them.

    Args:
        keep: what is kept of an annotation, plain values; it raises where something is missing.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], tuple[Any, ...]]) -> None:
        self.path, self._keep = path, keep
        self.images: dict[ImageId, tuple[str, Size]] = {}
        self._numbers: dict[ImageId, int] = {}  # of image ids, by first mention
        self._image = array("q")  # (A,) number of each annotation's image
        self._buffer, self._ends = bytearray(), array("q", [0])
        found = read_object(path, {"images": self._add_image, "annotations": self._add})
        for key in ("images", "annotations"):
            if key not in found:
                raise DataError(
                    f"{path}: has no {key!r}; found {sorted(found)}; expected COCO's layout"
                )
            if not isinstance(found[key], int):
                raise DataError(f"{path}: {key!r} is not a list; expected COCO's layout")
        unknown = self._numbers.keys() - self.images.keys()
        if unknown:
            first = next(i for i in self._numbers if i in unknown)
            what = self._read(list(self._image).index(self._numbers[first]))[0]
            raise DataError(f"{path}: {what} belongs to image {first}, which is not listed")
        images = np.asarray(self._image)
        self._order = np.argsort(images, kind="stable")
        self._edges = np.searchsorted(images[self._order], np.arange(len(self._numbers) + 1))

    def _add_image(self, entry: dict[str, Any]) -> None:
        number = get(entry, "id", "an image", self.path)
        what = f"image {number}"
        if number in self.images:
            raise DataError(f"{self.path}: {what} is listed twice; image ids must be unique")
        size = tuple(get(entry, key, what, self.path) for key in ("height", "width"))
        if not all(isinstance(edge, int | float) and edge >= 1 for edge in size):
            raise DataError(f"{self.path}: {what} has height and width {size}; expected pixels")
        name = get(entry, "file_name", what, self.path)
        self.images[number] = name, (int(size[0]), int(size[1]))

    def _add(self, entry: dict[str, Any]) -> None:
        kept = self._keep(entry)
        image = get(entry, "image_id", kept[0], self.path)
        self._image.append(self._numbers.setdefault(image, len(self._numbers)))
        self._buffer += marshal.dumps(kept)
        self._ends.append(len(self._buffer))

    def _read(self, index: int) -> tuple[Any, ...]:
        return marshal.loads(memoryview(self._buffer)[self._ends[index] : self._ends[index + 1]])

    def annotations(self, image: ImageId) -> list[tuple[Any, ...]]:
        """What was kept of those of an image, in the file's order."""
        number = self._numbers.get(image)
        if number is None:
            return []
        low, high = self._edges[number], self._edges[number + 1]
        return [self._read(i) for i in self._order[low:high].tolist()]


def get(entry: Any, key: str, what: str, path: Path) -> Any:
    """A required value."""
    if not isinstance(entry, dict):
        raise DataError(f"{path}: {what} is {entry!r}; expected an object")
    if key not in entry:
        raise DataError(f"{path}: {what} has no {key!r}; it has {sorted(entry)}")
    return entry[key]


def class_of(metadata: Metadata) -> dict[int, int]:
    """From ids in the files to contiguous classes."""
    return {number: k for k, number in enumerate(metadata.dataset_ids)}


def find_class(number: int, known: dict[int, int], where: str, metadata: Metadata) -> int:
    """The contiguous class, or an error that says what would be right."""
    if number not in known:
        ids = list(known)
        raise DataError(
            f"{where} has category {number}; {metadata.name} knows {len(ids)} ids from"
            f" {min(ids)} to {max(ids)}; correct the file, or the classes of the catalogue entry"
        )
    return known[number]


def read_coco_instances(spec: Spec) -> Iterator[Record]:
    """COCO detection JSON: polygons, both forms of RLE, crowds; images without objects stay."""
    path, known = spec.annotations, class_of(spec.metadata)

    def keep(entry: dict[str, Any]) -> tuple[Any, ...]:
        what = f"annotation {entry.get('id', '?')}" if isinstance(entry, dict) else "an annotation"
        category = get(entry, "category_id", what, path)
        shape = get(entry, "segmentation", what, path)
        return what, category, shape, bool(entry.get("iscrowd", 0)), entry.get("area")

    content, shapeless = CocoFile(path, keep), 0
    folder = image_folder(spec.images)
    for number, (name, size) in content.images.items():
        segments = []
        for what, category, value, crowd, area in content.annotations(number):
            label = find_class(category, known, f"{path}: {what} of image {number}", spec.metadata)
            shape = _shape(value, size, what, path)
            if shape is None:
                shapeless += 1
            else:
                segments.append(Segment(label, shape, crowd, area))
        yield Record(number, size, (Frame(folder / name, tuple(segments)),))
    if shapeless:
        logger.warning("%s: %d annotations have no polygon of an area; dropped", path, shapeless)


def _shape(value: Any, size: Size, what: str, path: Path) -> Polygons | Rle | None:
    if isinstance(value, list) and all(isinstance(ring, list) for ring in value):
        rings = tuple(tuple(ring) for ring in value if len(ring) >= 6 and len(ring) % 2 == 0)
        return Polygons(rings) if rings else None  # nothing but points and lines
    if not isinstance(value, dict) or not {"counts", "size"} <= value.keys():
        raise DataError(f"{path}: {what} has a segmentation that is neither polygons nor RLE")
    if tuple(value["size"]) != size:
        raise DataError(
            f"{path}: {what} has a mask of size {value['size']}, its image is {list(size)}"
            " (height, width)"
        )
    counts = value["counts"]
    if not isinstance(counts, list):
        return {
            "size": list(size),
            "counts": counts.encode() if isinstance(counts, str) else counts,
        }
    if sum(counts) != size[0] * size[1]:
        raise DataError(
            f"{path}: {what} has run lengths that add up to {sum(counts)}; expected height x width"
            f" = {size[0] * size[1]}"
        )
    return masks.compress(counts, size)


def read_coco_panoptic(spec: Spec) -> Iterator[Record]:
    """COCO panoptic JSON and its PNGs; an image without an annotation is left out."""
    path, known = spec.annotations, class_of(spec.metadata)
    content = panoptic_file(path)
    pngs = folder_of(spec.panoptic or path.with_suffix(""), "folder of panoptic PNGs")
    folder, left_out = image_folder(spec.images), 0
    for number, (name, size) in content.images.items():
        found = content.annotations(number)
        if len(found) > 1:
            raise DataError(f"{path}: image {number} has {len(found)} annotations; expected one")
        if not found:
            left_out += 1
            continue
        where, png, entries = found[0]
        if not png.endswith(".png"):  # EntitySeg names the image here
            png = png.split(".")[0] + ".png"
        segments = panoptic_segments(entries, known, f"{path}: {where}", spec.metadata)
        semantic = None if spec.semantic is None else spec.semantic / Path(png).name
        yield Record(number, size, (Frame(folder / name, segments, pngs / png, semantic),))
    if left_out:
        logger.warning("%s: %d images have no annotation; left out", path, left_out)


def panoptic_file(path: Path) -> CocoFile:
    """Of each annotation: what it is, its PNG, and (category, id, crowd, area) by segment."""

    def keep(entry: dict[str, Any]) -> tuple[Any, ...]:
        what = f"image {get(entry, 'image_id', 'an annotation', path)}"
        segments = tuple(
            (
                get(s, "category_id", f"a segment of {what}", path),
                get(s, "id", f"a segment of {what}", path),
                bool(s.get("iscrowd", 0)),
                s.get("area"),
            )
            for s in get(entry, "segments_info", what, path)
        )
        return what, get(entry, "file_name", what, path), segments

    return CocoFile(path, keep)


def panoptic_segments(
    entries: tuple[Any, ...], known: dict[int, int], where: str, metadata: Metadata
) -> tuple[Segment, ...]:
    """Segments of one panoptic PNG."""
    return tuple(
        Segment(find_class(category, known, where, metadata), PngId(int(number)), crowd, area)
        for category, number, crowd, area in entries
    )
