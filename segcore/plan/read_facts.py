"""Facts of a data set, in one pass over its annotations.

Legend of one-letter names: N images, M objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from segcore.data.object_areas import object_area
from segcore.data.store import Records
from segcore.data.stroke_widths import stroke_widths
from segcore.errors import DataError
from segcore.labels import frame_ids, semantic_map
from segcore.plan.facts import DataFacts
from segcore.structures import Metadata, PngId, Record, Segment

LABELS_READ = 32  # label images whose strokes are measured


def data_facts(records: Records, metadata: Metadata) -> DataFacts:
    """Of a data set, in one pass over its annotations.

    Raises:
        DataError: no image has an annotation that a training would see.
    """
    usable = records.take(records.usable)
    if not len(usable):
        raise DataError(
            f"{metadata.name}: no image has an annotation that is not a crowd; there is nothing to"
            " plan for"
        )
    counts, sides, owners = _objects(usable)
    first = usable[0].frames[0]
    labels = first.semantic is not None and first.panoptic is None and not counts.any()
    clips = bool(usable.frames.max() > 1)
    return DataFacts(
        name=metadata.name,
        classes=metadata.classes,
        is_thing=metadata.is_thing,
        sizes=usable.sizes,
        counts=counts,
        sides=sides,
        owners=owners,
        labels=labels,
        clips=clips,
        strokes=_strokes(usable, metadata) if labels and not clips else {},
    )


def _objects(records: Iterable[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) counts, (M,) sides, (M,) owners."""
    counts: list[int] = []
    sides: list[float] = []
    owners: list[int] = []
    for i, record in enumerate(records):
        objects = [s for s in record.frames[0].segments if not s.crowd]
        counts.append(len(objects))
        for area in filter(None, _areas(record, objects)):
            sides.append(area**0.5)
            owners.append(i)
    return np.asarray(counts), np.asarray(sides, float), np.asarray(owners, int)


def _areas(record: Record, objects: Sequence[Segment]) -> list[float]:
    """Pixels of each object: as the file says, or counted in a panoptic PNG."""
    areas = [object_area(segment, record.size) for segment in objects]
    if all(area is not None for area in areas):
        return [area or 0.0 for area in areas]
    numbers, pixels = np.unique(frame_ids(record.frames[0]), return_counts=True)
    counted = dict(zip(numbers.tolist(), pixels.tolist(), strict=True))
    return [
        float(counted.get(s.shape.id, 0)) if isinstance(s.shape, PngId) else area or 0.0
        for s, area in zip(objects, areas, strict=True)
    ]


def _strokes(records: Sequence[Record], metadata: Metadata) -> dict[str, float]:
    """Median over images of how wide the regions of each class are, by its name."""
    found: dict[int, list[float]] = {}
    step = max(1, len(records) // LABELS_READ)
    for i in range(0, len(records), step):
        record = records[i]
        labels = semantic_map(record.frames[0], metadata)
        for k, width in stroke_widths(labels).items():
            found.setdefault(k, []).append(width / min(record.size))
    return {metadata.classes[k]: float(np.median(found[k])) for k in sorted(found)}
