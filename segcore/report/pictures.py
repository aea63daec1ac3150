"""Pictures of the worst images and of doubtful labels, made at the size of the page.

Legend of one-letter names: N true segments, P predicted segments, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcore import masks
from segcore.data.images import read_image
from segcore.html_page import small
from segcore.painting import draw_masks, side_by_side
from segcore.report.outcome import MISSED, OUTLINE, RIGHT, WRONG_CLASS, Kept, Outcome
from segcore.report.pixels import KeptMaps, wrong_pixels
from segcore.segment_colors import matched_colors, own_colors
from segcore.structures import Metadata, Rle, Size

PANEL = 300  # pixels of the longer side of each of the four pictures of an image
CROP = 340
AROUND = 2.0  # times an object's longer side that is shown around it
LEAST = 64  # pixels of that
COLORS = {  # of errors
    "missed": (220, 30, 30),
    "wrong class": (250, 200, 0),
    "boundary": (40, 120, 255),
    "invented": (200, 60, 220),
}
TITLES = ("input", "truth", "prediction", "errors")


def image_row(outcome: Outcome, metadata: Metadata) -> np.ndarray:
    """Input, truth, prediction and errors of an image beside each other, (H, W, 3) uint8."""
    kept = outcome.kept
    assert kept is not None
    compared = kept.compared
    image = small(read_image(kept.file), PANEL)
    size = image.shape[0], image.shape[1]
    truth = list(zip(compared.truth_labels, shrunk(compared.truth, size), strict=True))
    shown = np.flatnonzero(outcome.shown()).tolist()
    rles = shrunk([compared.predicted[p] for p in shown], size)
    predicted = list(zip([compared.labels[p] for p in shown], rles, strict=True))
    colors = own_colors(compared.truth_labels, metadata), matched_colors(predicted, truth, metadata)
    several = len(metadata.classes) > 1  # else the same word everywhere
    names = [metadata.classes[k] if several else "" for k, _ in truth]
    said = [
        f"{metadata.classes[k] if several else ''} {100 * compared.scores[p]:.0f}%".strip()
        for p, (k, _) in zip(shown, predicted, strict=True)
    ]
    panels = [
        image,
        draw_masks(image, list(zip([rle for _, rle in truth], colors[0], names, strict=True))),
        draw_masks(image, list(zip(rles, colors[1], said, strict=True))),
        error_map(image, outcome, [rle for _, rle in truth], dict(zip(shown, rles, strict=True))),
    ]
    return side_by_side(panels, TITLES)


def error_map(
    image: np.ndarray, outcome: Outcome, truth: Sequence[Rle], predicted: dict[int, Rle]
) -> np.ndarray:
    """The image (H, W, 3) in pale grey under its errors, in the colours of COLORS.

    Args:
        truth: N masks at this size.
        predicted: masks of the predictions that are shown.
    """
    canvas = pale(image)
    pixels = error_pixels(outcome, truth, predicted, (image.shape[0], image.shape[1]))
    for kind, where in pixels.items():
        canvas[where] = COLORS[kind]
    return canvas


def pale(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) in light grey."""
    grey = image.mean(2, keepdims=True) * 0.5 + 110
    return np.repeat(grey, 3, 2).clip(0, 255).astype(np.uint8)


def error_pixels(
    outcome: Outcome, truth: Sequence[Rle], predicted: dict[int, Rle], size: Size
) -> dict[str, np.ndarray]:
    """Where each kind of error lies, (H, W) bool; what comes later lies above."""
    at = {kind: np.zeros(size, bool) for kind in ("boundary", "invented", "missed", "wrong class")}
    states = outcome.states()
    for p, rle in predicted.items():  # one mask is decoded at a time
        mask, cause, t = masks.decode(rle), outcome.causes[p], int(outcome.of[p])
        if cause in (RIGHT, OUTLINE):
            at["boundary"] |= mask ^ masks.decode(truth[t])
        elif cause == WRONG_CLASS:
            at["wrong class"] |= mask
        else:
            at["invented"] |= mask
    for t in np.flatnonzero(states == MISSED).tolist():
        at["missed"] |= masks.decode(truth[t])
    return at


def doubt_picture(kept: Kept, index: int, metadata: Metadata) -> np.ndarray:
    """One prediction in its surroundings: the image, and beside it what is annotated and it."""
    compared = kept.compared
    image = read_image(kept.file)
    box = _window(masks.boxes([compared.predicted[index]])[0], compared.size)
    x0, y0, x1, y1 = box
    picture = small(image[y0:y1, x0:x1], CROP)
    size = picture.shape[0], picture.shape[1]
    several = len(metadata.classes) > 1
    names = [metadata.classes[k] if several else "" for k in compared.truth_labels]
    colors = own_colors(compared.truth_labels, metadata)
    truth = [(shrunk([rle], size, box)[0], color, name)
             for rle, color, name in zip(compared.truth, colors, names, strict=True)]  # fmt: skip
    drawn = draw_masks(picture, [row for row in truth if masks.area([row[0]])[0]])
    mask = masks.decode(shrunk([compared.predicted[index]], size, box)[0])
    return side_by_side([_outlined(picture, mask), _outlined(drawn, mask)], ("image", "truth"))


def _window(box: np.ndarray, size: Size) -> tuple[int, int, int, int]:
    """x0 y0 x1 y1 of what is shown around a box: a square, as far as the image goes."""
    x0, y0, x1, y1 = (float(v) for v in box)
    half = max(LEAST, AROUND * max(x1 - x0, y1 - y0)) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return (
        max(int(x - half), 0),
        max(int(y - half), 0),
        min(int(x + half) + 1, size[1]),
        min(int(y + half) + 1, size[0]),
    )


def _outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """With a line around a mask (H, W)."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-2, 2):
            inner &= np.roll(mask, step, axis)
    canvas = picture.copy()
    canvas[mask & ~inner] = (255, 0, 80)
    return canvas


def shrunk(
    rles: Sequence[Rle], size: Size, box: tuple[int, int, int, int] | None = None
) -> list[Rle]:
    """Masks at another size (height, width), or of a part x0 y0 x1 y1 of the image."""
    small_masks = []
    for rle in rles:  # one large mask is decoded at a time
        mask = masks.decode(rle)
        x0, y0, x1, y1 = box or (0, 0, mask.shape[1], mask.shape[0])
        ys = y0 + (np.arange(size[0]) + 0.5) * (y1 - y0) / size[0]
        xs = x0 + (np.arange(size[1]) + 0.5) * (x1 - x0) / size[1]
        part = mask[ys.astype(int)[:, None], xs.astype(int)]
        small_masks += masks.encode(part[None])
    return small_masks


def pixel_row(kept: KeptMaps, metadata: Metadata) -> np.ndarray:
    """Input, truth, prediction and errors of an image beside each other, (H, W, 3) uint8."""
    image = small(read_image(kept.file), PANEL)
    maps, drawn = [], []
    for regions in (kept.truth, kept.predicted):
        rles = shrunk([rle for _, rle in regions], (image.shape[0], image.shape[1]))
        classes = [k for k, _ in regions]
        rows = [
            (rle, metadata.colors[k], metadata.classes[k])
            for k, rle in zip(classes, rles, strict=True)
        ]
        drawn.append(draw_masks(image, rows))
        maps.append(_class_map(classes, rles, image.shape[:2]))
    errors = pale(image)
    for kind, where in wrong_pixels(*maps).items():
        errors[where] = COLORS[kind]
    return side_by_side([image, *drawn, errors], TITLES)


def _class_map(classes: Sequence[int], rles: Sequence[Rle], size: Sequence[int]) -> np.ndarray:
    """(H, W) classes, -1 where none is."""
    painted = np.full((size[0], size[1]), -1, np.int32)
    for k, rle in zip(classes, rles, strict=True):
        painted[masks.decode(rle)] = k
    return painted
