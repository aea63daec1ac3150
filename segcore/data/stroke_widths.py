"""How wide the regions of a label image are.

Legend of one-letter names: H W pixels.
"""

from __future__ import annotations

import numpy as np


def stroke_widths(labels: np.ndarray) -> dict[int, float]:
    """Pixels across a typical region of each class: twice its area by the length of its outline.

    A long bar of width w has w, a disc of diameter d has 0.39 d: its outline follows pixel edges.

    Args:
        labels: (H, W) class of each pixel, -1: ignored, which bounds nothing.
    """
    area = np.bincount(labels[labels >= 0].ravel())
    outline = np.zeros(len(area))
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        edge = (a != b) & (a >= 0) & (b >= 0)
        for side in (a, b):
            outline += np.bincount(side[edge].ravel(), minlength=len(area))
    seen = np.flatnonzero(area)
    return {int(k): float(2 * area[k] / outline[k]) for k in seen if outline[k]}
