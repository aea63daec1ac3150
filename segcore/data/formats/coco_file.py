"""COCO's annotation files, packed while they are being parsed."""

from __future__ import annotations

import logging
import marshal
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.parsing.json_stream import read_object
from segcore.data.parsing.values import identity, real, text, typed
from segcore.data.problem import Effect, Problem, Report
from segcore.errors import DataError
from segcore.structures import Metadata, Size

logger = logging.getLogger(__name__)

ImageId = int | str
LARGEST_EDGE = 1 << 20  # pixels


class CocoFile:
    """Images of an annotation file, and its annotations grouped by them.

    A file without `annotations` lists images whose truth is unknown: COCO's test sets. In a file of
    videos these stand in the place of images.

    Args:
        values: what is kept of an annotation, plain values, its number first; DataError where
            something is missing.
        what: the number belongs to, for errors.
        problem: is given what is wrong with an entry, which is left out; the annotations of an
            image that is left out go with it.
        image_values: the file name of an entry of `images`, and what `more` is to have of it;
            DataError where something is missing.
        word: what the file lists: `images` that have an `image_id`, or "video".
    """

    def __init__(
        self,
        path: Path,
        values: Callable[[Any], tuple[Any, ...]],
        *,
        what: str,
        problem: Report,
        image_values: Callable[[Any, str], tuple[str, Any]] | None = None,
        word: str = "image",
    ) -> None:
        self.path, self._values, self._what, self._problem = path, values, what, problem
        # no method of its own: that would keep the whole file in memory until it is collected
        self._image_values = image_values or partial(_file_name, path)
        self.images: dict[ImageId, tuple[str, Size]] = {}
        self.more: dict[ImageId, Any] = {}  # of images
        self._left_out: set[ImageId] = set()
        self._numbers: dict[ImageId, int] = {}  # of image ids, by first mention
        self._image = array("q")  # (A,) number of each annotation's image
        self._buffer, self._ends = bytearray(), array("q", [0])
        self.word = word
        images = f"{word}s"
        content = read_object(path, {images: self._add_image, "annotations": self._add})
        if images not in content:
            raise DataError(
                f"{path}: has no {images!r}; it has {sorted(content)}; expected COCO's layout"
            )
        if content.get("annotations", 0) is None:  # as YouTube-VIS writes what is secret
            del content["annotations"]
        self.annotated = "annotations" in content
        if not self.annotated:
            logger.warning("%s: has no 'annotations'; its %s have no ground truth", path, images)
        for key in (images, "annotations"):
            if not isinstance(content.get(key, 0), int):
                raise DataError(f"{path}: {key!r} is not a list; expected COCO's layout")
        owners = np.asarray(self._image)
        self._order = np.argsort(owners, kind="stable")
        self._edges = np.searchsorted(owners[self._order], np.arange(len(self._numbers) + 1))
        for image in self._numbers:
            if image not in self.images and image not in self._left_out:
                self._report_unlisted(image)

    def _add_image(self, entry: Any) -> None:
        try:
            number = typed(entry, "id", identity, f"an entry of {self.word}s", self.path)
        except DataError as fault:
            self.report(str(fault), f"{self.word} entry")
            return
        what = f"{self.word} {number}"
        if number in self.images or number in self._left_out:
            message = f"{self.path}: {what} is listed twice; {self.word} ids must be unique"
            self.report(message, f"{self.word} entry", image=number)
            return
        try:
            height, width = (typed(entry, k, _edge, what, self.path) for k in ("height", "width"))
            name, more = self._image_values(entry, what)
        except DataError as fault:
            self._left_out.add(number)
            self.report(str(fault), f"{self.word} entry", image=number)
            return
        self.images[number] = name, (height, width)
        if more is not None:
            self.more[number] = more

    def _add(self, entry: Any) -> None:
        owner = f"{self.word}_id"
        try:
            values = self._values(entry)
            image = entry.get(owner)
            if type(image) is not int:  # nearly all are
                what = named(self._what, values[0])
                image = typed(entry, owner, identity, what, self.path)
        except DataError as fault:
            image = id_in(entry, owner)
            number = id_in(entry, "id")
            self.report(str(fault), "annotation entry", image=image, annotation=number)
            return
        self._image.append(self._numbers.setdefault(image, len(self._numbers)))
        self._buffer += marshal.dumps(values)
        self._ends.append(len(self._buffer))

    def _report_unlisted(self, image: ImageId) -> None:
        other: ImageId = str(image) if isinstance(image, int) else _number(image)
        hint = f"; there is an image {other!r}: write both with quotes, or both without"
        for number, *_ in self.annotations(image):
            what = f"{self.path}: {named(self._what, number)}"
            message = f"{what} belongs to {self.word} {image!r}, which is not listed"
            message += hint if other in self.images else ""
            self.report(message, f"unlisted {self.word}", image=image, annotation=number)

    def report(
        self,
        message: str,
        kind: str,
        *,
        image: ImageId | None = None,
        annotation: int | str | None = None,
        category: int | None = None,
        effect: Effect = "fault",
    ) -> None:
        """A fault or a loss of this file on its way to whoever wants to know."""
        where = {"path": self.path, "image": image, "annotation": annotation, "category": category}
        self._problem(Problem(message=message, kind=kind, effect=effect, **where))

    def _read(self, index: int) -> tuple[Any, ...]:
        return marshal.loads(memoryview(self._buffer)[self._ends[index] : self._ends[index + 1]])

    def annotations(self, image: ImageId) -> list[tuple[Any, ...]]:
        """What was kept of those of an image, in the file's order."""
        number = self._numbers.get(image)
        if number is None:
            return []
        low, high = self._edges[number], self._edges[number + 1]
        return [self._read(i) for i in self._order[low:high].tolist()]


def _number(text: str) -> ImageId:
    return int(text) if text.isdecimal() else text


def _file_name(path: Path, entry: Any, what: str) -> tuple[str, None]:
    return typed(entry, "file_name", text, what, path), None


def id_in(entry: Any, key: str) -> int | str | None:
    """An id, if the entry has one; that of an annotation is left out in many a file."""
    number = entry.get(key) if isinstance(entry, dict) else None
    return number if isinstance(number, int | str) else None


def named(what: str, number: int | str | None) -> str:
    """An entry in a message: "annotation 17"."""
    return f"{what} {'?' if number is None else number}"


def _edge(value: Any) -> int:
    if not 1 <= (edge := int(real(value))) <= LARGEST_EDGE:
        raise ValueError(f"pixels, 1 to {LARGEST_EDGE}")
    return edge


def class_of(metadata: Metadata) -> dict[int, int]:
    """From ids in the files to contiguous classes."""
    return {number: k for k, number in enumerate(metadata.dataset_ids)}


def unknown_category(number: int, where: str, metadata: Metadata) -> str:
    """What to say of a category that is none of the data set's classes."""
    ids = metadata.dataset_ids
    return (
        f"{where} has category {number}; {metadata.name} knows {len(ids)} ids from"
        f" {min(ids)} to {max(ids)}; correct the file, or the classes of the catalogue entry"
    )
