"""What the house knows of a file format: everything about one stands in its own file.

A format of one's own is a `Format` somewhere in one's own package; its import path
("mypkg.boxes:FORMAT") is its name in a catalogue entry (`reader:`) and before a path
("mypkg.boxes:FORMAT=my/data").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcore.data.class_list import ClassList
from segcore.data.problem import Report, raise_it
from segcore.structures import Metadata, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the files of one data set lie, and what to do about a fault in them.

    Args:
        annotations: a file or a folder, as the format wants it.
        images: a folder, or a place in a zip file.
        more: other paths of the catalogue entry, by its keys ("panoptic", "semantic", ...).
        problem: is given every fault; unless it raises, the reader leaves out what is spoilt.
    """

    annotations: Path
    images: Path
    more: Mapping[str, Path] = field(default_factory=dict[str, Path])
    problem: Report = raise_it


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Where a data set is written.

    Args:
        folder: of the whole data set; the images of this split lie in `images` already.
        split: "train", "val" ...; others of the same data set may be there.
        lost: counts what the format cannot hold, by what it is.
    """

    folder: Path
    split: str
    lost: Counter[str] = field(default_factory=Counter[str])

    @property
    def images(self) -> Path:
        """The folder of the split's images."""
        return self.folder / "images" / self.split

    def name(self, record: Record) -> str:
        """An image by its path below `images`."""
        return record.frames[0].file.relative_to(self.images).as_posix()

    def stem(self, record: Record) -> str:
        """The same without its suffix; no two images of a split share it."""
        return Path(self.name(record)).with_suffix("").as_posix()


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format.

    Args:
        name: what a catalogue entry calls it.
        read: records, in the files' order; classes are those of the Metadata. A fault of one
            image or annotation goes to `Source.problem`, DataError says that nothing can be read.
        recognises: whether a data set given by its path is of this format; never raises.
        images_beside: the folder of images of a data set given by its path alone; DataError
            names the places that were tried.
        evaluators: what such a data set can be evaluated by, unless its entry says otherwise.
        classes: as the data set's own files have them; None: the catalogue entry must list them.
        annotated: whether there is any truth to compare with, asked only where `classes` is; None:
            there always is.
        more: keys of further paths that a catalogue entry may have.
        first_id: of the classes in the files, where no list says it.
        things: whether objects are kept apart, where no list says it.
        images: whether its frames are image files; if not, a task's own views read them.
        write: the inverse of `read`, of stills whose segments are RLEs or polygons; returns the
            path under which the split is read again. None: not offered.
    """

    name: str
    read: Callable[[Source, Metadata], Iterator[Record]]
    recognises: Callable[[Path], bool]
    images_beside: Callable[[Path], Path]
    evaluators: tuple[str, ...]
    classes: Callable[[Source], ClassList] | None = None
    annotated: Callable[[Source], bool] | None = None
    more: tuple[str, ...] = ()
    first_id: int = 0
    things: bool = True
    images: bool = True
    write: Callable[[Metadata, Iterable[Record], Goal], Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A data set by its name; classes and evaluators as people wrote them, unchecked.

    Args:
        classes: a list or an object, or the path of a file that has one; None: the data set's own.
        evaluators: None: what is usual for the format.
        boundary_dilation: None: what is usual.
    """

    name: str
    format: Format
    source: Source
    classes: Any = None
    evaluators: Any = None
    boundary_dilation: Any = None
