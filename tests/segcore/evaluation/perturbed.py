"""Findings that are nearly right: ground truth moved, cut, relabelled, lost, with real shapes."""

import loading
import numpy as np
import torch

from segcore import masks
from segcore.evaluation.panoptic import truth_map
from segcore.labels import lookup
from segcore.structures import Instances, Metadata, Panoptic, PanopticSegment, Record, Result


def load(shared_data, name: str, images: str = "") -> tuple[Metadata, list[Record]]:
    path = str(shared_data / name) + (f"@{shared_data / images}" if images else "")
    metadata, records = loading.load(path)
    return metadata, list(records)


def instances(found: list[np.ndarray], labels: list[int], scores) -> Instances:
    """N masks (H, W), best first or not; boxes are tight."""
    rles = masks.encode(np.stack(found)) if found else []
    return Instances(
        torch.as_tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        rles,
        torch.from_numpy(masks.boxes(rles)) if rles else torch.zeros(0, 4),
    )


def nothing() -> Instances:
    return instances([], [], [])


def result(record: Record, metadata: Metadata, rng: np.random.Generator) -> Result:
    """Panoptic, semantic and instances at once; equal scores occur."""
    ids, segments = truth_map(record)
    K = len(metadata.classes)
    found = np.roll(ids, rng.integers(-4, 5, 2), (0, 1))
    found = np.where(rng.random((1, found.shape[1])) < 0.05, 0, found)
    listed, shapes, labels = [], [], []
    for i, segment in segments.items():
        mask = found == i
        k = segment.category if rng.random() < 0.85 else int(rng.integers(K))
        if rng.random() < 0.1:
            found[mask] = 0
        elif mask.any():
            listed.append(PanopticSegment(i, k, metadata.is_thing[k], 1.0, int(mask.sum())))
            if metadata.is_thing[k]:
                shapes.append(mask)
                labels.append(k)
                if rng.random() < 0.3:  # found twice
                    shapes.append(np.roll(mask, 3, 1))
                    labels.append(k)
    found = np.where(np.isin(found, [s.id for s in listed]), found, 0)
    classes = lookup(found, {s.id: s.category for s in listed})
    return Result(
        semantic=torch.from_numpy(np.maximum(classes, 0).astype(np.int16)),
        panoptic=Panoptic(torch.from_numpy(found.astype(np.int32)), listed),
        instances=instances(shapes, labels, rng.integers(1, 20, len(shapes)) / 20),
    )


def perfect(record: Record, metadata: Metadata) -> Result:
    """The ground truth itself."""
    ids, segments = truth_map(record)
    listed, shapes, labels = [], [], []
    for i, segment in segments.items():
        if not segment.crowd:
            thing = metadata.is_thing[segment.category]
            listed.append(PanopticSegment(i, segment.category, thing, 1.0, 0))
            if thing:
                shapes.append(ids == i)
                labels.append(segment.category)
    semantic = lookup(ids, {i: s.category for i, s in segments.items()})
    found = np.where(np.isin(ids, [s.id for s in listed]), ids, 0)
    return Result(
        semantic=torch.from_numpy(np.maximum(semantic, 0)),
        panoptic=Panoptic(torch.from_numpy(found), listed),
        instances=instances(shapes, labels, np.ones(len(shapes))),
    )
