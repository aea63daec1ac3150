"""What a data set holds, and what of it no training will see: the part of the doctor that costs
nothing, because it is counted while the annotations are read.

`segcore train` says it at its start and refuses what `refusal` names; `segcore doctor` prints the
same. Pixels are not looked at here, but for a few label images.

Legend of one-letter names: K classes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from segcore.data.label_counts import LabelCounts
from segcore.data.problem import (
    BROKEN_RING,
    DROPPED,
    FLAT,
    FURTHER,
    ID_ZERO,
    MOSTLY_OUTSIDE,
    NO_ANNOTATION,
    NO_MASK,
    OTHER_AREA,
    OTHER_BOX,
    OTHER_SHAPE,
    OUTSIDE,
    SHORT,
    UNIT,
    UNLISTED,
    Problem,
    raise_it,
)
from segcore.structures import Metadata, Record

logger = logging.getLogger(__name__)

CROWD = "marked crowd"
FEW = 0.01  # share of annotations that may be lost without a warning: published sets have some
SHOWN = 5  # classes of a line
LONGEST = 40  # letters of a name in it
FILE = "correct the file"
CURES = {
    NO_MASK: "boxes are no target: draw masks, or take these annotations out of the file",
    OTHER_SHAPE: "points, lines and skeletons are no target: draw polygons or masks",
    FURTHER: "take out all but one in the tool, or the first one counts",
    SHORT: "a ring is x0, y0, x1, y1, ... of three points or more; correct the file",
    BROKEN_RING: "correct the broken rings, or the rest is all that is learnt of the object",
    CROWD: 'write "iscrowd": 0 where the mask is of one object (CVAT writes 1 for every mask)',
    UNIT: "multiply the coordinates by the image's width and height",
    OUTSIDE: "coordinates are pixels of the image, x before y, from the top left",
    MOSTLY_OUTSIDE: "coordinates are pixels of the image, x before y, from the top left",
    UNLISTED: "list them in segments_info, or paint them 0; they are ignored like 0",
    ID_ZERO: "count segments from 1: panopticapi and others take 0 for pixels without a label",
    FLAT: FILE,
    OTHER_AREA: FILE,
    OTHER_BOX: FILE,
}


def _counters() -> dict[str, Counter[int]]:
    return {}


@dataclass(slots=True)
class Survey:
    """Counts of one data set. `watched` and `add` fill it while the data set is read.

    Args:
        images: all that are listed, those without an annotation too; videos where it has such.
        frames: of all of them; as many as there are images.
        empty: those without a segment and without a label image.
        objects: segments that are no crowds, by class (0..K-1).
        crowds: segments that are, which no training sees but one on label images.
        lost: by kind (segcore.data.problem) and class; -1: of no known class.
        odd: the same of what is used as it is.
        first: what was said of the first of each kind.
        labels: what a few label images hold, where somebody has looked.
    """

    metadata: Metadata
    images: int = 0
    frames: int = 0
    empty: int = 0
    objects: Counter[int] = field(default_factory=Counter[int])
    crowds: Counter[int] = field(default_factory=Counter[int])
    lost: dict[str, Counter[int]] = field(default_factory=_counters)
    odd: dict[str, Counter[int]] = field(default_factory=_counters)
    first: dict[str, str] = field(default_factory=dict[str, str])
    labels: LabelCounts | None = None

    def add(self, problem: Problem) -> None:
        """What readers report to: counts losses and oddities, raises at a fault."""
        raise_it(problem)
        self.first.setdefault(problem.kind, problem.message)
        if problem.kind == NO_ANNOTATION:
            self.images += 1
            self.frames += 1
            self.empty += 1
            return
        kinds = self.lost if problem.effect == "loss" else self.odd
        k = -1 if problem.category is None else problem.category
        kinds.setdefault(problem.kind, Counter())[k] += 1

    def watched(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, counted on their way."""
        for record in records:
            self.images += 1
            self.frames += len(record.frames)
            segments, labels = 0, False
            for frame in record.frames:
                labels = labels or frame.semantic is not None
                segments += len(frame.segments)
                for segment in frame.segments:
                    (self.crowds if segment.crowd else self.objects)[segment.category] += 1
            self.empty += not segments and not labels
            yield record

    def lost_of(self, k: int, *, crowds_train: bool = False) -> dict[str, int]:
        """How many annotations of a class are lost, by kind.

        Args:
            crowds_train: crowds are no loss: label images show them like everything else.
        """
        counts = {kind: by_class[k] for kind, by_class in self.lost.items() if by_class[k]}
        if self.crowds[k] and not crowds_train:
            counts[CROWD] = self.crowds[k]
        return counts

    def annotated(self, k: int) -> int:
        """Annotations of a class, lost ones too."""
        dropped = sum(self.lost[kind][k] for kind in DROPPED if kind in self.lost)
        return self.objects[k] + self.crowds[k] + dropped

    def classes(self) -> list[int]:
        """Of which there is an annotation, whatever becomes of it."""
        return [k for k in range(len(self.metadata.classes)) if self.annotated(k)]

    def lines(self, empty: str = "") -> list[tuple[int, str]]:
        """Three lines for people, each with its level of logging: a warning where much is lost.

        Args:
            empty: what becomes of images, or videos, without an annotation.
        """
        return [self.emptiness(empty), self._classes(), self.losses()]

    def emptiness(self, empty: str = "") -> tuple[int, str]:
        """The first of the lines."""
        text = f"{self.metadata.name}: {how_many(self.images, self.frames)}"
        if self.empty:
            text += f", {self.empty} of them without an annotation" + (empty and f": {empty}")
        many = 2 * self.empty > self.images or NO_ANNOTATION in self.first
        return logging.WARNING if many else logging.INFO, text

    def _classes(self) -> tuple[int, str]:
        names, level = self.metadata.row_names, logging.INFO
        if self.labels is not None and not self.objects and not self.crowds:
            counts, total = self.labels.classes, f"in {self.labels.read} label images"
        else:
            counts = Counter({k: self.annotated(k) for k in self.classes()})
            total = f"{sum(counts.values())} annotations"
        text = f"  {total}: {_shares(counts, names)}" if counts else f"  {total}"
        if never := [name for k, name in enumerate(names) if k not in counts]:
            text += f"; {len(never)} classes never occur: {_some([_short(name) for name in never])}"
        return level, text

    def losses(self) -> tuple[int, str]:
        """The last of the lines."""
        names, level, parts = self.metadata.row_names, logging.INFO, []
        total = max(1, sum(self.annotated(k) for k in self.classes()))
        kinds = {kind: c for kind, c in (self.lost | self.odd).items() if c}
        for kind, counts in kinds.items():
            known = Counter({k: n for k, n in counts.items() if k >= 0})
            parts.append(f"{kind}: {counts.total()} ({_shares(known, names)})")
            if counts.total() > FEW * total:
                level = logging.WARNING
                parts[-1] += f", e.g. {self.first[kind]}"
        if self.crowds:
            parts.append(f"{CROWD}: {self.crowds.total()} ({_shares(self.crowds, names)})")
            if any(2 * self.crowds[k] > self.annotated(k) for k in self.crowds):
                level = logging.WARNING
                parts[-1] += f"; {CURES[CROWD]}"
        if level == logging.WARNING:
            parts += dict.fromkeys(CURES[kind] for kind in kinds)
        lost = "; ".join(parts)
        return (
            level,
            f"{self.metadata.name}: lost or doubtful: {lost}" if lost else "nothing is lost",
        )

    def log(self) -> None:
        """What is lost, where nobody asks for more: the data set is not trained on."""
        if NO_ANNOTATION in self.first:
            logger.log(*self.emptiness())
        if self.lost or self.odd:
            logger.log(*self.losses())

    def refusal(self, *, crowds_train: bool = False) -> str:
        """Why nobody should train on it: a class, or all of it, loses every annotation; "" is none.

        Args:
            crowds_train: as of `lost_of`.
        """
        if not self.images:
            return f"{self.metadata.name}: has no image; there is nothing to train on"
        if self.labels is not None and (refusal := self.labels.refusal(self.metadata)):
            return refusal
        names, gone = self.metadata.row_names, {}
        for k in self.classes():
            counts = self.lost_of(k, crowds_train=crowds_train)
            if sum(counts.values()) >= self.annotated(k):
                gone[k] = counts
        if not gone:
            return ""
        by_class = [f"{names[k]!r} ({_kinds(counts)})" for k, counts in gone.items()]
        everything = len(gone) == len(self.classes())
        kinds = dict.fromkeys(kind for counts in gone.values() for kind in counts)
        first = [self.first[kind] for kind in kinds if kind in self.first]
        return (
            f"{self.metadata.name}: {'all classes lose' if everything else 'classes that lose'}"
            f" every annotation: {_some(by_class)}{'' if everything else ' would teach nothing'}"
            f"{'; the first: ' + first[0] if first else ''}; "
            + "; ".join(dict.fromkeys(CURES[kind] for kind in kinds))
        )


def how_many(images: int, frames: int) -> str:
    """Images, or videos where there are more frames."""
    return f"{images} images" if images == frames else f"{images} videos of {frames} frames"


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:SHOWN]) + (", ..." if len(texts) > SHOWN else "")


def _shares(counts: Counter[int], names: tuple[str, ...]) -> str:
    return _some([f"{_short(names[k])} {n}" for k, n in counts.most_common()])


def _short(name: str) -> str:
    """A class name that takes no more than its place in a line."""
    plain = " ".join(name.split())
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in counts.items())
