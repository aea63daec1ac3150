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
    table = namesakes(theirs, ours)
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


def namesakes(theirs: Metadata, ours: Metadata) -> dict[int, int]:
    """From classes of theirs to those of ours that are called alike; the first one of a name."""
    places: dict[str, int] = {}
    for k, name in enumerate(ours.classes):
        places.setdefault(_plain(name), k)
    return {k: places[_plain(n)] for k, n in enumerate(theirs.classes) if _plain(n) in places}


def in_classes_of(theirs: Metadata, ours: Metadata) -> Metadata | None:
    """The same data set as a model with the classes of `ours` sees it, read by their names.

    None where a class of theirs has no namesake, or several have one. Classes of the model that
    the data set does not know are `absent`: they have ids that its files do not use.
    """
    table = namesakes(theirs, ours)
    if len(table) < len(theirs.classes) or len(set(table.values())) < len(table):
        return None
    back = {k: i for i, k in table.items()}
    absent = tuple(k for k in range(len(ours.classes)) if k not in back)
    free = iter(range(max(theirs.dataset_ids) + 1, max(theirs.dataset_ids) + 1 + len(absent)))
    ids = [
        theirs.dataset_ids[back[k]] if k in back else next(free) for k in range(len(ours.classes))
    ]
    things = [theirs.is_thing[back[k]] if k in back else t for k, t in enumerate(ours.is_thing)]
    frequencies = theirs.frequencies and [
        theirs.frequencies[back[k]] if k in back else "f" for k in range(len(ours.classes))
    ]
    labels = theirs.label_map or {k: k for k in range(len(theirs.classes))}
    return replace(
        theirs,
        classes=ours.classes,
        dataset_ids=tuple(ids),
        is_thing=tuple(things),
        colors=ours.colors,
        label_map={value: table[k] for value, k in labels.items()},
        strict_labels=theirs.label_map is None,
        frequencies=tuple(frequencies),
        absent=absent,
    )


def alike(a: Metadata, b: Metadata) -> bool:
    """Whether two data sets have the same classes in the same order."""
    return [_plain(name) for name in a.classes] == [_plain(name) for name in b.classes]


def _plain(name: str) -> str:
    return name.strip().replace("_", " ").replace("-", " ").casefold()


def _renamed(records: Records, table: dict[int, int], lost: Counter[int]) -> Iterator[Record]:
    """Args: lost: how many of each class are left out is counted there."""
    for record in records:
        frames = tuple(_of_frame(frame, table, lost) for frame in record.frames)
        yield replace(record, frames=frames, negatives=(), not_exhaustive=())


def _of_frame(frame: Frame, table: dict[int, int], lost: Counter[int]) -> Frame:
    lost.update(s.category for s in frame.segments if s.category not in table)
    kept = (s for s in frame.segments if s.category in table)
    return replace(frame, segments=tuple(replace(s, category=table[s.category]) for s in kept))
