"""All results of a data set as the files that evaluation servers take."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore.errors import DataError
from segcore.evaluation.writers import (
    coco_json,
    json_text,
    panoptic_png,
    tracks_json,
    write_png,
)
from segcore.file_names import short_name
from segcore.structures import Metadata, Record, Result
from segcore.whole_file import whole_file

NAMES = "names.part"  # folder: who was first to have a name
INSTANCES, PANOPTIC, SEMANTIC = "coco_instances_results.json", "predictions.json", "semantic"
TRACKS = "results.json"  # what the servers of YouTube-VIS want it called
LISTS = (INSTANCES, PANOPTIC, TRACKS)


class Predictions:
    """Writes while results come; `join` makes the JSON files out of what all ranks wrote.

    `coco_instances_results.json`: COCO's list of masks, boxes and scores. `results.json`: tracks of
    videos. `predictions.json` and `predictions/*.png`: COCO panoptic. `semantic/*.png`: the data
    set's own class numbers. They are called like the image; where two images have one name, with
    the folders that tell them apart.

    Args:
        folder: where the files go; ranks share it.
    """

    def __init__(self, folder: Path, metadata: Metadata, rank: int = 0) -> None:
        self.folder, self.metadata, self.rank = folder, metadata, rank
        for name in LISTS:  # what a stopped run left
            self._part(name, rank).unlink(missing_ok=True)
        ids = np.array(metadata.dataset_ids)
        self.numbers = ids.astype(np.uint8 if ids.max(initial=0) < 256 else np.uint16)

    def __call__(self, result: Result, record: Record) -> None:
        """Write one result."""
        if result.instances is not None:
            self._write(INSTANCES, coco_json(result, record.id, self.metadata))
        if result.tracks is not None:
            self._write(TRACKS, tracks_json(result, record.id, self.metadata))
        if result.panoptic is None and result.semantic is None:
            return
        name = self._name(record)
        if result.panoptic is not None:
            png, segments = panoptic_png(result.panoptic, self.metadata)
            write_png(self.folder / Path(PANOPTIC).stem / f"{name}.png", png)
            image = {"image_id": record.id, "file_name": f"{name}.png"}
            self._write(PANOPTIC, [image | {"segments_info": segments}])
        if result.semantic is not None:
            write_png(self.folder / SEMANTIC / f"{name}.png", self.numbers[result.semantic.numpy()])

    def join(self, ranks: int = 1) -> None:
        """One file out of the ranks' parts; call it on one rank when all are done."""
        shutil.rmtree(self.folder / NAMES, ignore_errors=True)
        for name in LISTS:
            parts = [self._part(name, rank) for rank in range(ranks)]
            parts = [part for part in parts if part.exists()]
            if not parts:
                continue
            before, after = ('{"annotations": [', "]}") if name == PANOPTIC else ("[", "]")
            with whole_file(self.folder / name, "w") as out:
                out.write(before)
                for i, line in enumerate(_lines(parts)):
                    out.write((",\n" if i else "\n") + line)
                out.write(f"\n{after}\n")
            for part in parts:
                part.unlink()

    def _name(self, record: Record) -> str:
        """What the image's files are called: like it, with as many of its folders as are needed.

        Another rank may have an image of the same name; a small file says who was first.
        """
        image = str(record.frames[0].file)
        for long in _names(record):
            folders, _, last = long.rpartition("/")
            name = f"{folders}/{short_name(last)}" if folders else short_name(last)
            claim = self.folder / NAMES / f"{name}.txt"
            claim.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), claim.open("xb") as file:
                file.write(os.fsencode(image))
                return name
            if claim.read_bytes() == os.fsencode(image):
                return name
        raise DataError(f"{image}: is listed twice; its results would overwrite each other")

    def _part(self, name: str, rank: int) -> Path:
        return self.folder / f"{name}.{rank}.part"

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._part(name, self.rank).open("a", encoding="utf-8") as file:
            file.writelines(json_text(row) + "\n" for row in rows)


def _names(record: Record) -> Iterator[str]:
    """From short to long; an id that is the path below the image folder comes first."""
    path = record.frames[0].file.with_suffix("")
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    number = str(record.id).split("/")
    if len(number) > 1 and parts[-len(number) :] == number:
        yield "/".join(number)
    yield from ("/".join(parts[i:]) for i in range(len(parts) - 1, -1, -1))
    yield f"{'/'.join(parts)} {str(record.id).replace('/', ' ')}"  # files differ by suffix alone


def _lines(parts: list[Path]) -> Iterator[str]:
    for part in parts:
        with part.open(encoding="utf-8") as file:
            yield from (line.rstrip("\n") for line in file)
