"""One data set's classes found by name among another's, so that both can be trained together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from segcore.data.store import Records
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Record

logger = logging.getLogger(__name__)


def matched(records: Records, theirs: Metadata, ours: Metadata) -> Records:
    """Records of `theirs` with the classes of `ours`; objects of other classes are left out.

    Names are the same whatever their case, with `_` or `-` or a blank between words. DataError
    where no class has a namesake.
    """
    places = {_plain(name): k for k, name in enumerate(ours.classes)}
    table = {k: places[_plain(n)] for k, n in enumerate(theirs.classes) if _plain(n) in places}
    if not table:
        raise DataError(
            f"{theirs.name}: none of its classes ({', '.join(theirs.classes[:3])}, ...) is called"
            f" like one of {ours.name} ({', '.join(ours.classes[:3])}, ...); name them alike in a"
            " class list"
        )
    lost: Counter[int] = Counter()
    found = Records(_renamed(records, table, lost))
    logger.info(
        "%s: %d of its %d classes are those of %s; %d objects of other classes are left out",
        *(theirs.name, len(table), len(theirs.classes), ours.name, lost.total()),
    )
    return found


def _plain(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").casefold()


def _renamed(records: Records, table: dict[int, int], lost: Counter[int]) -> Iterator[Record]:
    """Args: lost: how many of each class are left out is counted there."""
    for record in records:
        frames = tuple(_of_frame(frame, table, lost) for frame in record.frames)
        yield replace(record, frames=frames, negatives=(), not_exhaustive=())


def _of_frame(frame: Frame, table: dict[int, int], lost: Counter[int]) -> Frame:
    lost.update(s.category for s in frame.segments if s.category not in table)
    kept = (s for s in frame.segments if s.category in table)
    return replace(frame, segments=tuple(replace(s, category=table[s.category]) for s in kept))
