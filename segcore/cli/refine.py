"""Refine the masks of predictions that lie in files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from segcore.build.data import data_root
from segcore.build.refine import refine_files
from segcore.cli.progress import progress_of
from segcore.data.catalog import Catalog
from segcore.data.store import Records
from segcore.engine.device import choose_device
from segcore.engine.launch import DTYPES, choose_precision
from segcore.engine.memory import keep_freed_memory
from segcore.user_path import user_path


def main(
    *,
    predictions: Path,
    images: str | None,
    weights: str,
    output: Path,
    iou_threshold: float,
    least_area: int,
    numerics: str,
    batch_size: int | None,
    precision: str,
    device: str,
    keep_missing: bool,
    catalogs: Sequence[Path],
) -> int:
    """Refine what is not done yet."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    keep_freed_memory()
    with progress_of("refining") as progress:
        done = refine_files(
            "bpr",
            weights,
            predictions,
            output,
            images=images_of(images, catalogs),
            device=choose_device(device),
            iou_threshold=iou_threshold,
            least_area=least_area,
            numerics=numerics,
            batch_size=batch_size,
            precision=DTYPES[choose_precision(precision, device, "--precision")],
            keep_missing=keep_missing,
            progress=progress,
        )
    if done.before:
        print(f"{done.before} images were done already")
    for message in done.missing[:5]:
        print(f"kept as it was: {message}")
    print(f"{done.done} images refined, {len(done.missing)} kept as they were; see {output}")
    return 0


def images_of(images: str | None, catalogs: Sequence[Path]) -> Path | Records | None:
    """A folder, or the records of a data set, where either is named."""
    if images is None:
        return None
    if (folder := user_path(images)).is_dir():
        return folder
    return Catalog(data_root(), list(catalogs)).read(images)
