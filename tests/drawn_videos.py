"""Drawn videos: coloured squares that move over grey, and a predictor that knows colours."""

import numpy as np

from segcore.config import load_config
from segcore.predict import Predictor

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def moving_squares(count, paths, size=(64, 96), side=16):
    """`count` frames (H, W, 3); a path is (colour, number of the frame -> (y, x) or None)."""
    frames = np.full((count, *size, 3), 100, np.uint8)
    for t, frame in enumerate(frames):
        for color, place in paths:
            at = place(t)
            if at is not None:
                y, x = at
                frame[max(y, 0) : y + side, max(x, 0) : x + side] = color
    return list(frames)


def bouncing(t, row=8, width=96, side=16, step=3):
    """From edge to edge and back."""
    way = width - side
    x = t * step % (2 * way)
    return row, x if x < way else 2 * way - x


def color_options(catalog, clips=True):
    """Of a config for `outside.colors`."""
    return [
        *("MODEL.META_ARCHITECTURE", "outside.colors:build", "MODEL.COLORS.CLIPS", str(clips)),
        *("MODEL.DEVICE", "cpu", "DATASETS.CATALOGS", f"[{catalog}]"),
        *("DATASETS.TRAIN", "[tiny_panoptic]", "INPUT.MIN_SIZE_TEST", "0"),
    ]


def color_predictor(catalog, clips=True):
    """Without weights, and exact."""
    return Predictor(load_config(None, color_options(catalog, clips)), "")
