"""Which annotated object a predicted instance means, for training on predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore import masks as mask_io
from segcore.errors import DataError
from segcore.labels import frame_ids
from segcore.predictions.image_predictions import ImageId, ImagePredictions, Predictions
from segcore.segment_rle import to_rle
from segcore.structures import Metadata, PngId, Record, Rle

SEED = 2020  # of the published draw


@dataclass(frozen=True, slots=True)
class MatchedInstance:
    """A predicted instance and the object of its class that it overlaps most."""

    record: int  # index
    place: int  # in the order of the predictions' file
    coarse: Rle
    truth: Rle | None  # the record has no object of the class
    iou: float  # of the two


def record_of_image(predictions: Predictions, records: Sequence[Record]) -> dict[ImageId, int]:
    """Index of every predicted image's record, by id or else by its file's name.

    DataError where one has none: then these are predictions of another image set.
    """
    by_id: dict[ImageId, int] = {}
    by_name: dict[ImageId, int] = {}
    for i, record in enumerate(records):
        by_id[record.id] = i
        by_name[record.frames[0].file.stem] = i
    found = {image: by_id.get(image, by_name.get(image)) for image in predictions.images}
    unknown = [image for image, index in found.items() if index is None]
    if unknown:
        examples = ", ".join(str(record.id) for record in records[:3])
        raise DataError(
            f"{predictions.path}: {len(unknown)} of its {len(found)} images are not among the"
            f" {len(records)} of the data set, first: {unknown[0]!r}; that one has {examples} ...;"
            " are the predictions of another image set?"
        )
    return {image: index for image, index in found.items() if index is not None}


def pictures_in(
    predictions: Predictions, records: Sequence[Record]
) -> Callable[[ImagePredictions], Path]:
    """Where a data set has the image of some predictions."""
    index = record_of_image(predictions, records)
    return lambda found: records[index[found.image]].frames[0].file


def match_instances(
    predictions: Predictions,
    records: Sequence[Record],
    metadata: Metadata,
    *,
    min_iou: float | None = 0.5,
) -> list[MatchedInstance]:
    """Predicted instances in their order, with the objects that they mean.

    Args:
        min_iou: only those that overlap more than so much, as published for training; None: all.
    """
    index = record_of_image(predictions, records)
    matched: list[MatchedInstance] = []
    for image in predictions.images:
        found, record = predictions.read(image), records[index[image]]
        found.check_size(record.size)
        classes = _classes(found, metadata)
        labels, objects = record_objects(record)
        ious = mask_io.iou(found.masks, objects)  # (N, M)
        ious = np.where(classes[:, None] == labels, ious, -1)
        for i, rle in enumerate(found.masks):
            best = int(ious[i].argmax()) if len(objects) else -1
            same = best >= 0 and ious[i, best] >= 0
            iou = float(ious[i, best]) if same else 0.0
            if min_iou is None or iou > min_iou:
                truth = objects[best] if same else None
                matched.append(MatchedInstance(index[image], found.places[i], rle, truth, iou))
    return sorted(matched, key=lambda instance: instance.place)


def sample_instances(
    instances: Sequence[MatchedInstance], count: int, seed: int = SEED
) -> list[MatchedInstance]:
    """As many as asked for, some of them several times: the published draw has replacement."""
    if not instances:
        raise DataError("no predicted instance overlaps an object enough to be trained on")
    drawn = np.random.RandomState(seed).choice(len(instances), count)
    return [instances[i] for i in drawn]


def record_objects(record: Record) -> tuple[np.ndarray, list[Rle]]:
    """(M,) classes and the masks of all annotated objects, crowds left out."""
    frame = record.frames[0]
    segments = [s for s in frame.segments if not s.crowd]
    painted = [s.shape.id for s in segments if isinstance(s.shape, PngId)]
    rles = iter(mask_io.encode_ids(frame_ids(frame), painted) if painted else [])
    objects = [
        next(rles) if isinstance(s.shape, PngId) else to_rle(s, frame, record.size)
        for s in segments
    ]
    return np.array([s.category for s in segments], np.int64), objects


def _classes(found: ImagePredictions, metadata: Metadata) -> np.ndarray:
    """(N,) contiguous classes of predictions."""
    known = {number: k for k, number in enumerate(metadata.dataset_ids)}
    unknown = sorted(set(found.categories) - known.keys())
    if unknown:
        ids = metadata.dataset_ids
        raise DataError(
            f"{found.where}: has category {unknown[0]}; {metadata.name} knows {len(ids)} ids from"
            f" {min(ids)} to {max(ids)}; are the predictions of another data set, or numbered from"
            " 0 or 1 where this one has ids of its own?"
        )
    return np.array([known[number] for number in found.categories], np.int64)
