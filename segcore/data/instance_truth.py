"""Objects of a panoptic data set as its instances JSON has them: what published APs compare with.

In panoptic PNGs objects hide each other and small ones are missing, so that AP against them is
another number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from segcore.data.formats.format import Format, Source
from segcore.data.problem import raise_it
from segcore.data.store import Records
from segcore.data.survey import Survey
from segcore.errors import DataError
from segcore.structures import Metadata, Record


class InstanceTruth:
    """The instances of a record's image, packed until they are asked for.

    Args:
        format: of the instances JSON.
        source: `annotations` is that file.
        metadata: of the panoptic data set, whose category ids are those of the JSON.
    """

    def __init__(self, format: Format, source: Source, metadata: Metadata) -> None:
        self.format, self.source, self.metadata = format, source, metadata
        self.path = source.annotations
        self._by_file: dict[str, int] = {}
        self._by_id: dict[int | str, int] = {}

    @cached_property
    def records(self) -> Records:
        """Of the instances JSON, read when the first one is asked for."""
        survey, source = Survey(self.metadata), self.source
        if source.problem is raise_it:  # nobody else counts what is lost
            source = replace(source, problem=survey.add)
        records = Records(self._noted(survey.watched(self.format.read(source, self.metadata))))
        survey.log()
        return records

    def _noted(self, records: Iterator[Record]) -> Iterator[Record]:
        for i, record in enumerate(records):
            self._by_file[str(record.frames[0].file)] = self._by_id[record.id] = i
            yield record

    def __call__(self, record: Record) -> Record:
        """The same image with its instances, known by its file or else by its id."""
        records = self.records
        index = self._by_file.get(str(record.frames[0].file), self._by_id.get(record.id))
        if index is None:
            raise DataError(
                f"{self.path}: does not list {record.frames[0].file} (image {record.id}); expected"
                " the images of the panoptic file; correct `instances` of the catalogue entry"
            )
        truth = records[index]
        if truth.size != record.size:
            raise DataError(
                f"{self.path}: image {truth.id} is {truth.size} (height, width), in the panoptic"
                f" file {record.size}; expected the same"
            )
        return truth
