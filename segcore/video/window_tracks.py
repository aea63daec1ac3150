"""What a model says of a clip or an image, as the tracks of one window."""

from __future__ import annotations

import numpy as np
import torch

from segcore import masks
from segcore.structures import Result, Tracks


def window_tracks(result: Result) -> Tracks:
    """Its tracks; of an image (T = 1) its panoptic segments, else its instances, else classes."""
    if result.tracks is not None:
        return result.tracks
    if result.panoptic is not None:
        segments = result.panoptic.segments
        scores, labels = [s.score for s in segments], [s.category for s in segments]
        rles = masks.encode_ids(result.panoptic.map.numpy(), [s.id for s in segments])
    elif result.instances is not None:
        found = result.instances
        return Tracks(found.scores, found.labels, [[rle] for rle in found.masks])
    elif result.semantic is not None:
        classes = result.semantic.numpy()
        labels = [int(k) for k in np.unique(classes)]
        scores, rles = [1.0] * len(labels), masks.encode_ids(classes, labels)
    else:
        scores, labels, rles = [], [], []
    numbers = torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    return Tracks(*numbers, [[rle] for rle in rles])
