"""All training patches of a data set into one file, from predictions or from degraded truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from maskrefine.degrade import degrade
from maskrefine.patch_data import training_patches
from maskrefine.patch_store import STORE_SUFFIX, Patches, write_patches
from maskrefine.patches import PATCH_SIZE
from maskrefine.truth import (
    SEED,
    MatchedInstance,
    match_instances,
    record_objects,
    sample_instances,
)
from segcore import masks as mask_io
from segcore.errors import DataError
from segcore.predictions.read import read_predictions
from segcore.structures import Metadata, Record


def write_training_patches(
    output: Path,
    records: Sequence[Record],
    metadata: Metadata,
    *,
    predictions: Path | None = None,
    min_iou: float | None = 0.5,
    count: int = 0,
    iou_threshold: float = 0.25,
    size: int = PATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Cut every patch on the boundaries of coarse masks; how many there were.

    Args:
        output: a new .npy file, which `maskrefine.patch_store:FORMAT` reads.
        predictions: file or folder of a model's masks; None: annotated masks are made worse.
        min_iou: of a prediction with the object that it means; None: all of them.
        count: of instances that are drawn; 0: all of them.
        iou_threshold: windows of a mask overlap at most so much.
        size: pixels of the image on a side of a patch.
        progress: is told how many instances are done, of how many.
    """
    if output.suffix != STORE_SUFFIX:
        raise DataError(f"{output}: expected a name that ends in {STORE_SUFFIX}")
    if predictions is None:
        instances = list(degraded_instances(records))
    else:
        found = read_predictions(predictions)
        instances = match_instances(found, records, metadata, min_iou=min_iou)
    if count or not instances:  # which raises where there is none to draw
        instances = sample_instances(instances, count)

    def told() -> Iterator[Patches]:
        parts = training_patches(instances, records, iou_threshold=iou_threshold, size=size)
        for done, part in enumerate(parts, start=1):
            yield part
            progress(done, len(instances))

    return write_patches(output, told(), size)


def degraded_instances(records: Sequence[Record], seed: int = SEED) -> Iterator[MatchedInstance]:
    """Every annotated object once, made worse; left out where no way comes near enough."""
    for i, record in enumerate(records):
        _, objects = record_objects(record)
        for place, rle in enumerate(objects):
            rng = np.random.default_rng((seed, i, place))
            truth = mask_io.decode(rle)
            coarse = degrade(truth, rng)
            if coarse is not None:
                iou = float((coarse & truth).sum() / (coarse | truth).sum())
                yield MatchedInstance(i, place, mask_io.encode(coarse[None])[0], rle, iou)
