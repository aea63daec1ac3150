"""COCO's two formats, detection and panoptic, packed while the file is being parsed."""

from __future__ import annotations

import logging
import marshal
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.folders import Spec, folder_of, image_folder
from segcore.data.images import IMAGE_SUFFIXES
from segcore.data.parsing.json_stream import read_object
from segcore.data.parsing.run_lengths import RleCheck
from segcore.data.parsing.shapes import shape_of
from segcore.data.parsing.values import flag, get, identity, listing, real, text, typed, whole
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, PngId, Record, Segment, Size

logger = logging.getLogger(__name__)

ImageId = int | str
LARGEST_EDGE = 1 << 20  # pixels


class CocoFile:
    """Images of an annotation file, and its annotations grouped by them.

    A file without `annotations` lists images whose truth is unknown: COCO's test sets.

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
        if "images" not in found:
            raise DataError(
                f"{path}: has no 'images'; found {sorted(found)}; expected COCO's layout"
            )
        self.annotated = "annotations" in found
        if not self.annotated:
            logger.warning("%s: has no 'annotations'; its images have no ground truth", path)
        for key in ("images", "annotations"):
            if not isinstance(found.get(key, 0), int):
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
        number = typed(entry, "id", identity, "an image", self.path)
        what = f"image {number}"
        if number in self.images:
            raise DataError(f"{self.path}: {what} is listed twice; image ids must be unique")
        height, width = (typed(entry, key, _edge, what, self.path) for key in ("height", "width"))
        self.images[number] = typed(entry, "file_name", text, what, self.path), (height, width)

    def _add(self, entry: dict[str, Any]) -> None:
        kept = self._keep(entry)
        image = typed(entry, "image_id", identity, kept[0], self.path)
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


def _edge(value: Any) -> int:
    if not 1 <= (edge := int(real(value))) <= LARGEST_EDGE:
        raise ValueError(f"pixels, 1 to {LARGEST_EDGE}")
    return edge


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
        category = typed(entry, "category_id", whole, what, path)
        shape = get(entry, "segmentation", what, path)
        crowd = typed(entry, "iscrowd", flag, what, path, default=False)
        return what, category, shape, crowd, typed(entry, "area", real, what, path, default=None)

    content, shapeless, check = CocoFile(path, keep), 0, RleCheck(path)
    folder = image_folder(spec.images)
    for image, (name, size) in content.images.items():
        segments = []
        for what, category, value, crowd, area in content.annotations(image):
            label = find_class(category, known, f"{path}: {what} of image {image}", spec.metadata)
            shape = shape_of(value, size, what, check)
            if shape is None:
                shapeless += 1
            else:
                segments.append(Segment(label, shape, crowd, area))
        yield Record(image, size, (Frame(folder / name, tuple(segments)),))
    check.flush()
    if shapeless:
        logger.warning("%s: %d annotations have no polygon of an area; dropped", path, shapeless)


def read_coco_panoptic(spec: Spec) -> Iterator[Record]:
    """COCO panoptic JSON and its PNGs; an image without an annotation is left out."""
    path, known = spec.annotations, class_of(spec.metadata)
    content = panoptic_file(path)
    if not content.annotated:
        yield from _unannotated(content, image_folder(spec.images))
        return
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
        png = _png_of(png, pngs)
        segments = panoptic_segments(entries, known, f"{path}: {where}", spec.metadata)
        semantic = None if spec.semantic is None else spec.semantic / Path(png).name
        yield Record(number, size, (Frame(folder / name, segments, pngs / png, semantic),))
    if left_out:
        logger.warning("%s: %d images have no annotation; left out", path, left_out)


def _unannotated(content: CocoFile, folder: Path) -> Iterator[Record]:
    for number, (name, size) in content.images.items():
        yield Record(number, size, (Frame(folder / name),))


def _png_of(name: str, folder: Path) -> str:
    """The PNG that an annotation means: EntitySeg names the image, up to its first dot."""
    if name.lower().endswith(".png"):
        return name
    stem = name
    while stem.lower().endswith(IMAGE_SUFFIXES):
        stem = stem.rpartition(".")[0]
    short = name.split(".")[0] + ".png"
    if f"{stem}.png" != short and not (folder / f"{stem}.png").exists():
        return short if (folder / short).exists() else f"{stem}.png"
    return f"{stem}.png"


def panoptic_file(path: Path) -> CocoFile:
    """Of each annotation: what it is, its PNG, and (category, id, crowd, area) by segment."""

    def keep(entry: dict[str, Any]) -> tuple[Any, ...]:
        what = f"image {typed(entry, 'image_id', identity, 'an annotation', path)}"
        where = f"a segment of {what}"
        segments = tuple(
            (
                typed(s, "category_id", whole, where, path),
                typed(s, "id", whole, where, path),
                typed(s, "iscrowd", flag, where, path, default=False),
                typed(s, "area", real, where, path, default=None),
            )
            for s in typed(entry, "segments_info", listing, what, path)
        )
        return what, typed(entry, "file_name", text, what, path), segments

    return CocoFile(path, keep)


def panoptic_segments(
    entries: tuple[Any, ...], known: dict[int, int], where: str, metadata: Metadata
) -> tuple[Segment, ...]:
    """Segments of one panoptic PNG."""
    return tuple(
        Segment(find_class(category, known, where, metadata), PngId(png_id), crowd, area)
        for category, png_id, crowd, area in entries
    )
