"""Cut the patches that a mask refiner is trained on."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from segcore.build.data import data_root
from segcore.build.refine import write_training_data
from segcore.cli.progress import progress_of
from segcore.data.catalog import Catalog


def main(
    *,
    name: str,
    output: Path,
    predictions: Path | None,
    min_iou: float,
    count: int,
    iou_threshold: float,
    size: int,
    catalogs: Sequence[Path],
) -> int:
    """Write the patches of a data set into one file."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    sets = Catalog(data_root(), list(catalogs))
    metadata, records = sets.metadata(name), sets.read(name)
    with progress_of("cutting") as progress:
        patches = write_training_data(
            "bpr",
            output,
            records,
            metadata,
            predictions=predictions,
            min_iou=min_iou or None,
            count=count,
            iou_threshold=iou_threshold,
            size=size,
            progress=progress,
        )
    print(f"{patches} patches in {output}; train on them with")
    words = ["DATASETS.TRAIN", f'["maskrefine.patch_store:FORMAT={output}"]']
    words += ["MODEL.BPR.PATCH_SIZE", str(size)] if size != 64 else []
    print("  segcore train small/bpr_hrnet18s.yaml", shlex.join(words))
    return 0
