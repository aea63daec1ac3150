"""Objects of a panoptic data set as its instances JSON has them: what published APs compare with.

In panoptic PNGs objects hide each other and small ones are missing, so that AP against them is
another number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path

from segcore.data.catalog import find
from segcore.data.classes import metadata_of
from segcore.data.folders import Spec
from segcore.data.formats.coco import read_coco_instances
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.structures import Record

logger = logging.getLogger(__name__)


class InstanceTruth:
    """The instances of a record's image, packed until they are asked for.

    Args:
        spec: `annotations` is the instances JSON; its category ids are those of the metadata.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.path = spec, spec.annotations
        self._files: dict[str, int] = {}
        self._ids: dict[int | str, int] = {}

    @cached_property
    def records(self) -> Records:
        """Of the instances JSON, read when the first one is asked for."""
        return Records(self._noted(read_coco_instances(self.spec)))

    def _noted(self, records: Iterator[Record]) -> Iterator[Record]:
        for i, record in enumerate(records):
            self._files[str(record.frames[0].file)] = self._ids[record.id] = i
            yield record

    def __call__(self, record: Record) -> Record:
        """The same image with its instances, found by its file or else by its id."""
        records = self.records
        index = self._files.get(str(record.frames[0].file), self._ids.get(record.id))
        if index is None:
            raise DataError(
                f"{self.path}: does not list {record.frames[0].file} (image {record.id}); expected"
                " the images of the panoptic file; correct `instances` of the catalogue entry"
            )
        found = records[index]
        if found.size != record.size:
            raise DataError(
                f"{self.path}: image {found.id} is {found.size} (height, width), in the panoptic"
                f" file {record.size}; expected the same"
            )
        return found


def instance_truth(name: str, root: Path, catalogs: Sequence[Path] = ()) -> InstanceTruth | None:
    """Of a data set whose entry names `instances`; None where it does not, or has no such file."""
    entry = find(name, root, catalogs)
    path: Path | None = entry.get("instances")
    if path is None:
        return None
    there = path.is_file()
    _tell(name, path, there)
    return InstanceTruth(Spec(entry["images"], path, metadata_of(name, entry))) if there else None


@cache  # once is enough
def _tell(name: str, path: Path, there: bool) -> None:
    if there:
        logger.info("%s: AP is measured against %s", name, path)
        return
    logger.warning(
        "%s: AP is measured against the panoptic PNGs, because %s is not there; published numbers"
        " are measured against that file",
        name,
        path,
    )
