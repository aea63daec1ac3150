"""All results of a data set as the files that evaluation servers take."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore.evaluation.writers import coco_json, panoptic_png, write_png
from segcore.structures import Metadata, Record, Result

INSTANCES, PANOPTIC, SEMANTIC = "coco_instances_results.json", "predictions.json", "semantic"


class Predictions:
    """Writes while results come; `join` makes the JSON files out of what all ranks wrote.

    `coco_instances_results.json`: COCO's list of masks, boxes and scores. `predictions.json` and
    `predictions/*.png`: COCO panoptic. `semantic/*.png`: the data set's own class numbers.

    Args:
        folder: where the files go; ranks share it.
    """

    def __init__(self, folder: Path, metadata: Metadata, rank: int = 0) -> None:
        self.folder, self.metadata, self.rank = folder, metadata, rank
        for name in (INSTANCES, PANOPTIC):  # what a stopped run left
            self._part(name, rank).unlink(missing_ok=True)
        ids = np.array(metadata.dataset_ids)
        self.numbers = ids.astype(np.uint8 if ids.max(initial=0) < 256 else np.uint16)

    def __call__(self, result: Result, record: Record) -> None:
        """Write one result."""
        stem = record.frames[0].file.stem
        if result.instances is not None:
            self._write(INSTANCES, coco_json(result, record.id, self.metadata))
        if result.panoptic is not None:
            png, segments = panoptic_png(result.panoptic, self.metadata)
            write_png(self.folder / Path(PANOPTIC).stem / f"{stem}.png", png)
            image = {"image_id": record.id, "file_name": f"{stem}.png"}
            self._write(PANOPTIC, [image | {"segments_info": segments}])
        if result.semantic is not None:
            write_png(self.folder / SEMANTIC / f"{stem}.png", self.numbers[result.semantic.numpy()])

    def join(self, ranks: int = 1) -> None:
        """One file out of the ranks' parts; call it on one rank when all are done."""
        for name in (INSTANCES, PANOPTIC):
            parts = [self._part(name, rank) for rank in range(ranks)]
            parts = [part for part in parts if part.exists()]
            if not parts:
                continue
            before, after = ('{"annotations": [', "]}") if name == PANOPTIC else ("[", "]")
            goal = self.folder / name
            temporary = goal.with_name(goal.name + ".tmp")
            with temporary.open("w") as out:
                out.write(before)
                for i, line in enumerate(_lines(parts)):
                    out.write((",\n" if i else "\n") + line)
                out.write(f"\n{after}\n")
            os.replace(temporary, goal)
            for part in parts:
                part.unlink()

    def _part(self, name: str, rank: int) -> Path:
        return self.folder / f"{name}.{rank}.part"

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._part(name, self.rank).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def _lines(parts: list[Path]) -> Iterator[str]:
    for part in parts:
        with part.open() as file:
            yield from (line.rstrip("\n") for line in file)
