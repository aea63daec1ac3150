"""One pass over a data set's records, for all checks that look at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segcore.data.store import Records
from segcore.structures import Record

Look = Callable[[Record], None]


@dataclass(slots=True)
class Passing:
    """What `examine` hands its records through: remembers which they are, shows them to checks.

    Args:
        watch: shows the progress.
        looks: called with every record.
        records: all of them, for those who look again.
        index: where each id stands in `records`.
        files: image files, frame by frame, with the index of their record.
    """

    watch: Callable[[Records], Iterable[Record]]
    looks: Sequence[Look] = ()
    records: Records = field(default_factory=Records)
    index: dict[int | str, int] = field(default_factory=dict[int | str, int])
    files: list[tuple[Path, int]] = field(default_factory=list[tuple[Path, int]])

    def __call__(self, records: Records) -> Iterator[Record]:
        """The same records."""
        self.records = records
        for i, record in enumerate(self.watch(records)):
            self.index[record.id] = i
            self.files += ((frame.file, i) for frame in record.frames)
            for look in self.looks:
                look(record)
            yield record

    @property
    def labelled(self) -> bool:
        """There are label images, which show crowds like everything else."""
        return bool(len(self.records)) and self.records[0].frames[0].semantic is not None

    def record(self, number: int | str | None) -> Record | None:
        """By its id."""
        return self.records[self.index[number]] if number in self.index else None
