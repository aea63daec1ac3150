"""Squares in a row of cells of 10 x 10 pixels: overlaps that can be worked out by hand."""

import numpy as np
import torch

from segcore import masks
from segcore.structures import Frame, Instances, Metadata, Record, Result, Segment

SIZE = 10, 60
THREE = Metadata(
    "squares", ("cat", "dog", "<b>$x</b>"), (1, 2, 3), (True, True, True), ((9, 9, 9),) * 3,
    evaluators=("instance",),
)  # fmt: skip


def square(x0, x1):
    """Columns x0 to x1 of all ten rows: 10 (x1 - x0) pixels."""
    mask = np.zeros(SIZE, bool)
    mask[:, x0:x1] = True
    return masks.encode(mask[None])[0]


def record(file, truth):
    """An image with squares of (class, x0, x1), or with a crowd: (class, x0, x1, True)."""
    segments = tuple(Segment(k, square(x0, x1), bool(crowd)) for k, x0, x1, *crowd in truth)
    return Record(str(file), SIZE, (Frame(file, segments),))


def result(predictions):
    """Instances (class, x0, x1, score), in this order."""
    labels, scores = [p[0] for p in predictions], [p[3] for p in predictions]
    rles = [square(x0, x1) for _, x0, x1, _ in predictions]
    boxes = torch.tensor([[x0, 0, x1, 10] for _, x0, x1, _ in predictions]).reshape(-1, 4)
    return Result(
        instances=Instances(
            torch.tensor(scores), torch.tensor(labels, dtype=torch.int64), rles, boxes
        )
    )
