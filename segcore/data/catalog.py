"""Data set names: what they mean is written in YAML, or read from the annotation file itself.

An entry of the catalogue (`datasets/catalog/*.yaml`, or a file of one's own):

    reader: coco_instances            # a name of formats/table.py, or package.module:FORMAT
    evaluators: [instance]
    classes: classes/mine.yaml        # left out: from the annotation file
    names:
      mine_train: {images: mine/train, annotations: mine/train.json}

A path needs no entry: [FORMAT=]ANNOTATIONS[@IMAGES].
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.classes import metadata_of
from segcore.data.formats.format import Entry, Format, Source
from segcore.data.formats.table import FORMATS, all_formats, format_of, recognised
from segcore.data.held_back import part_of, split_part
from segcore.data.instance_truth import InstanceTruth
from segcore.data.parsing.yaml_file import read_yaml
from segcore.data.problem import Report
from segcore.data.store import Records
from segcore.data.survey import Survey
from segcore.errors import DataError
from segcore.import_path import is_import_path
from segcore.shipped import shipped
from segcore.structures import Metadata
from segcore.user_path import user_path

logger = logging.getLogger(__name__)

CATALOG = shipped("datasets") / "catalog"
BLOCK = {"reader", "names", "classes", "evaluators", "boundary_dilation"}  # keys


@dataclass(frozen=True, slots=True)
class _Written:
    """An entry as a catalogue file has it, its paths made absolute."""

    file: Path
    block: dict[str, Any]  # what entries of a block share
    paths: dict[str, Path]


class Catalog:
    """All data sets by name; each file is parsed once.

    Args:
        root: what relative paths of the catalogue start from (DETECTRON2_DATASETS).
        files: more catalogue files; their relative paths start from the file's own folder.
        first: so many records with an annotation are given of every data set; 0: all of it.
    """

    def __init__(self, root: Path, files: Sequence[Path] = (), first: int = 0) -> None:
        self.root, self.files, self.first = root, tuple(files), first
        self._entries: dict[str, Entry] = {}
        self._metadata: dict[str, Metadata] = {}
        self._records: dict[tuple[str, tuple[int, ...]], Records] = {}
        self._truth: dict[tuple[str, tuple[int, ...]], InstanceTruth | None] = {}

    def names(self) -> list[str]:
        """All that the catalogue files name."""
        return list(self._written)

    def entry(self, name: str) -> Entry:
        """What a name stands for.

        Args:
            name: of a catalogue file; or a path, [FORMAT=]ANNOTATIONS[@IMAGES]: a COCO JSON, a
                COCO panoptic JSON, a folder of label images, or what FORMAT reads. NAME#train and
                NAME#val are four fifths of its images and the others.
        """
        if name not in self._entries:
            self._entries[name] = self._entry(name)
        return self._entries[name]

    def metadata(self, name: str) -> Metadata:
        """Classes only; where the catalogue lists them, no file of the data set need be there."""
        if name not in self._metadata:
            self._metadata[name] = metadata_of(self.entry(name))
        return self._metadata[name]

    def records(self, name: str, metadata: Metadata | None = None) -> Records:
        """Records, kept as long as the catalogue: for what is evaluated again and again.

        Args:
            metadata: the classes by which the files are read; None: the data set's own.
        """
        key = name, (metadata or self.metadata(name)).dataset_ids
        if key not in self._records:
            self._records[key] = self.read(name, metadata=metadata)
        return self._records[key]

    def read(
        self,
        name: str,
        problem: Report | None = None,
        *,
        survey: Survey | None = None,
        metadata: Metadata | None = None,
    ) -> Records:
        """Records, read anew and left to the caller.

        Args:
            problem: is given every fault of the files; None: the first one is raised, and what is
                lost besides is counted.
            survey: counts; None: what is lost is logged.
            metadata: as of `records`.
        """
        entry, metadata = self.entry(name), metadata or self.metadata(name)
        counts = survey or Survey(metadata)
        source = replace(entry.source, problem=problem or counts.add)
        records = Records(counts.watched(entry.format.read(source, metadata)))
        if survey is None and problem is None:
            counts.log()
        if self.first:
            records = records.take(np.flatnonzero(records.usable)[: self.first])
        return records

    def comes_along(self, name: str) -> bool:
        """Whether it is a published data set of the shipped catalogue, not one of the user's."""
        return name in self._written and self._written[name].file.is_relative_to(CATALOG)

    def annotated(self, name: str) -> bool:
        """Whether there is any truth to compare with, as far as the file is there to say so."""
        entry = self.entry(name)
        asked = entry.format.annotated
        return asked is None or not entry.source.annotations.exists() or asked(entry.source)

    def truth(self, name: str, metadata: Metadata | None = None) -> InstanceTruth | None:
        """What AP of a panoptic data set is measured against, where that is a file of its own.

        Args:
            metadata: as of `records`.
        """
        key = name, (metadata or self.metadata(name)).dataset_ids
        if key not in self._truth:
            self._truth[key] = self._instances(name, metadata or self.metadata(name))
        return self._truth[key]

    def _instances(self, name: str, metadata: Metadata) -> InstanceTruth | None:
        source = self.entry(name).source
        path = source.more.get("instances")
        if path is None:
            return None
        if path.is_file():
            logger.info("%s: AP is measured against %s", name, path)
            instances = replace(source, annotations=path, more={})
            return InstanceTruth(format_of("coco_instances"), instances, metadata)
        logger.warning(
            "%s: AP is measured against the panoptic PNGs, because %s is not there; published"
            " numbers are measured against that file",
            name,
            path,
        )
        return None

    def _entry(self, name: str) -> Entry:
        if name in self._written:
            return _entry_of(name, self._written[name])
        whole, part = split_part(name)
        if part and not Path(name).exists():
            entry = self.entry(whole)
            return replace(entry, name=name, format=part_of(entry.format, part))
        if "@" in name or "/" in name or _stated_format(name) or Path(name).exists():
            return _entry_of_path(name)
        near = difflib.get_close_matches(name, self._written, n=3, cutoff=0.4)
        raise DataError(
            f"unknown data set {name!r}; nearest names: {', '.join(near) or 'none'}; a path to"
            " annotations works too (ANNOTATIONS.json@IMAGES), or an own file in DATASETS.CATALOGS"
        )

    @cached_property
    def _written(self) -> dict[str, _Written]:
        """By name; of two entries of a name the later one counts."""
        entries: dict[str, _Written] = {}
        for file in sorted(CATALOG.glob("*.yaml")):
            entries.update(_entries(file, file.parents[1], self.root))
        for file in map(Path, self.files):
            entries.update(_entries(file, file.parent, file.parent))
        return entries


def _entries(file: Path, lists: Path, start: Path) -> Iterator[tuple[str, _Written]]:
    """Of one file; class lists lie below `lists`, everything else below `start`."""
    content = read_yaml(file, "catalogue file")
    for block in content if isinstance(content, list) else [content]:
        if not isinstance(block, dict) or not {"reader", "names"} <= block.keys():
            raise DataError(f"{file}: an entry needs `reader` and `names`; see datasets/README.md")
        if unknown := block.keys() - BLOCK:
            raise DataError(
                f"{file}: unknown {sorted(map(str, unknown))}; an entry has `reader`, `names`, and"
                " may have `classes`, `evaluators` and `boundary_dilation`"
            )
        if not isinstance(block["names"], dict):
            raise DataError(
                f"{file}: `names` is {block['names']!r:.80}; expected NAME: {{images: FOLDER,"
                " annotations: FILE}"
            )
        if isinstance(classes := block.get("classes"), str):
            block["classes"] = lists / classes
        for name, paths in block["names"].items():
            yield name, _Written(file, block, _paths(f"{file}: {name}", paths, start))


def _paths(where: str, paths: Any, start: Path) -> dict[str, Path]:
    if not isinstance(paths, dict) or not {"images", "annotations"} <= paths.keys():
        raise DataError(f"{where} needs `images` and `annotations`; it is {paths}")
    if wrong := [v for v in paths.values() if not isinstance(v, str) or not v]:
        raise DataError(f"{where} has {wrong[0]!r} where a path is expected")
    return {key: start / user_path(value) for key, value in paths.items()}


def _entry_of(name: str, written: _Written) -> Entry:
    block, more = written.block, dict(written.paths)
    format = format_of(block["reader"], name)
    images, annotations = more.pop("images"), more.pop("annotations")
    # what another format reads is no mistake: entries of several formats may share their paths
    known = {key for each in (format, *all_formats()) for key in each.more}
    if unknown := more.keys() - known:
        raise DataError(
            f"{written.file}: {name} has unknown {sorted(unknown)}; it needs `images` and"
            f" `annotations`, and may have {', '.join(sorted(known))}"
        )
    source = Source(images=images, annotations=annotations, more=more)
    return Entry(
        name=name,
        format=format,
        source=source,
        classes=block.get("classes"),
        evaluators=block.get("evaluators"),
        boundary_dilation=block.get("boundary_dilation"),
    )


def _entry_of_path(name: str) -> Entry:
    """What a path means: the format from the content, the images from the usual places."""
    stated = _stated_format(name)
    path, images = _split(name.partition("=")[2] if stated else name)
    if not path.exists():
        raise DataError(
            f"{path}: not found (looked for {path.absolute()}); a data set is a name of the"
            " catalogue, or the path of an annotation file or of a folder of label images"
        )
    format = stated or recognised(path)
    folder = user_path(images) if images else format.images_beside(path)
    return Entry(name=name, format=format, source=Source(images=folder, annotations=path))


def _stated_format(name: str) -> Format | None:
    """The one before an equals sign; a path may have such a sign of its own."""
    word, sign, _ = name.partition("=")
    if sign and (word in FORMATS or (is_import_path(word) and not {"/", "@"} & set(word))):
        return format_of(word, name)
    return None


def _split(name: str) -> tuple[Path, str]:
    """Annotations and, behind an `@`, images; a path may have an `@` of its own."""
    places = [i for i, sign in enumerate(name) if sign == "@"]
    for end in (len(name), *places):
        if (path := user_path(name[:end])).exists():
            return path, name[end + 1 :]
    text, _, images = name.partition("@")
    return user_path(text), images
