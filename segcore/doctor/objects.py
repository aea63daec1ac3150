"""Objects that a config's model cannot see, or not all at once.

Legend of one-letter names: Q queries, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from segcore.data.object_areas import object_area
from segcore.data.transforms import shortest_edge
from segcore.doctor.finding import KEPT, Case, Finding, finding
from segcore.structures import Metadata, Record

CELL = 4  # pixels of the resized image to a cell of the finest map, on which masks are made
MANY = 0.05  # share of objects from which on it is a warning


@dataclass(slots=True)
class SmallObjects:
    """Objects whose area is below that of a cell, after an image was resized for the test.

    Args:
        min_size: INPUT.MIN_SIZE_TEST; 0: images stay as they are.
        max_size: INPUT.MAX_SIZE_TEST.
    """

    min_size: int
    max_size: int
    seen: Counter[int] = field(default_factory=Counter[int])
    small: Counter[int] = field(default_factory=Counter[int])
    cases: list[Case] = field(default_factory=list[Case])

    def look(self, record: Record) -> None:
        """At one image; of a video, at its first frame."""
        H, W = record.size
        h, w = shortest_edge(H, W, edge=self.min_size, longest=self.max_size)
        share = h * w / (H * W)
        for i, segment in enumerate(record.frames[0].segments):
            area = None if segment.crowd else object_area(segment, record.size)
            if area is None:
                continue
            self.seen[segment.category] += 1
            if area * share >= CELL * CELL:
                continue
            self.small[segment.category] += 1
            if len(self.cases) < KEPT:
                text = f"image {record.id}: {area:.0f} pixels, {area * share:.1f} of them at"
                message = f"{text} {h}x{w}, of {CELL * CELL} in a cell"
                self.cases.append(Case(message=message, image=record.id, segment=i))

    def findings(self, metadata: Metadata) -> Iterator[Finding]:
        """What there is to say at the end."""
        count, total = self.small.total(), self.seen.total()
        if not count:
            return
        worst = max(self.small, key=lambda k: self.small[k] / self.seen[k])
        text = f"{100 * count / total:.1f} % of all objects, {self.small[worst]} of"
        advice = (
            f"{text} {self.seen[worst]} of {metadata.row_names[worst]!r}; masks are made on a map"
            f" of {CELL} pixels to a cell: a larger INPUT.MIN_SIZE_TEST and MIN_SIZE_TRAIN, or"
            " tiles of the images"
        )
        severity = "warning" if count > MANY * total else "note"
        check = "object smaller than a cell of the finest map"
        yield finding(severity, check, metadata.name, self.cases, count=count, advice=advice)


@dataclass(slots=True)
class Crowding:
    """Objects an image against what a model can say at once.

    Args:
        queries: Q; None: the model has none.
        detections: TEST.DETECTIONS_PER_IMAGE; None: it does not find instances.
    """

    queries: int | None
    detections: int | None = None
    counts: list[int] = field(default_factory=list[int])
    ids: list[int | str] = field(default_factory=list[int | str])

    def look(self, record: Record) -> None:
        """At one image; of a video, at all its tracks."""
        if len(record.frames) == 1:
            number = sum(not s.crowd for s in record.frames[0].segments)
        else:
            number = len({s.track for f in record.frames for s in f.segments if not s.crowd})
        self.counts.append(number)
        self.ids.append(record.id)

    def findings(self, metadata: Metadata) -> Iterator[Finding]:
        """What there is to say at the end."""
        limits = (
            (self.queries, "queries", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "is learnt of"),
            (self.detections, "detections", "TEST.DETECTIONS_PER_IMAGE", "is scored of"),
        )
        counts = np.asarray(self.counts)
        for limit, word, key, loss in limits:
            if limit is None or not (over := np.flatnonzero(counts > limit)).size:
                continue
            worst = over[np.argsort(-counts[over], kind="stable")][:KEPT]
            cases = [
                Case(message=f"image {self.ids[i]}: {counts[i]} objects", image=self.ids[i])
                for i in worst.tolist()
            ]
            advice = f"there are {limit}, and nothing {loss} the objects beyond; raise {key}"
            check = f"image with more objects than {word}"
            yield finding(
                "warning", check, metadata.name, cases, count=int(over.size), advice=advice
            )
