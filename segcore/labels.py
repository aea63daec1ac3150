"""From label images to ids and classes.

Legend of one-letter names: K classes, H W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import DataError
from segcore.structures import Frame, Metadata, PngId

UNKNOWN = -2  # class of a label value that nothing explains


def panoptic_file(frame: Frame) -> Path:
    """The frame's panoptic PNG, or an error that names the image."""
    if frame.panoptic is None:
        raise DataError(f"{frame.file}: segments refer to a panoptic PNG, but none is given")
    return frame.panoptic


def read_ids(path: Path) -> np.ndarray:
    """Panoptic PNG -> (H, W) int32 ids: R + 256 G + 65536 B, or the grey value itself."""
    pixels = _whole_numbers(read_png(path), path)
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    if pixels.shape[2] < 3:
        raise DataError(
            f"{path}: has {pixels.shape[2]} channels (grey and alpha); expected red, green and"
            " blue, or grey alone; save it without alpha"
        )
    red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
    return red + 256 * green + 65536 * blue


def frame_ids(frame: Frame) -> np.ndarray:
    """The frame's panoptic ids (H, W); an error where none of its segments is in the PNG."""
    path = panoptic_file(frame)
    ids = read_ids(path)
    numbers = [s.shape.id for s in frame.segments if isinstance(s.shape, PngId)]
    if numbers and not any((ids == number).any() for number in numbers):  # the first one, mostly
        raise DataError(
            f"{path}: has none of the {len(numbers)} segment ids that its annotation lists (the"
            f" first is {numbers[0]}); expected id = R + 256 G + 65536 B; is it another image's?"
        )
    return ids


def read_png(path: Path) -> np.ndarray:
    """Label image as it is stored, palette indices included: (H, W) or (H, W, 2+)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"{path}: label image not found") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a label image: {error}") from error


def _whole_numbers(pixels: np.ndarray, path: Path) -> np.ndarray:
    """The same values, of an integer type; bits become 0 and 1."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    kind = pixels.dtype.kind
    if kind not in "ui" or (kind == "i" and pixels.min(initial=0) < 0):
        what = "negative numbers" if kind == "i" else f"{pixels.dtype} pixels"
        raise DataError(
            f"{path}: has {what}; expected whole numbers from 0; save it with 8 or 16 bits a pixel"
        )
    return pixels


def semantic_map(frame: Frame, metadata: Metadata) -> np.ndarray:
    """(H, W) int32 class of every pixel, -1 where nothing is annotated.

    From the semantic PNG if there is one, else painted from the panoptic PNG.
    """
    if frame.semantic is not None:
        raw = read_png(frame.semantic)
        if raw.ndim != 2:
            raise DataError(
                f"{frame.semantic}: has shape {raw.shape}; expected one channel of class numbers"
            )
        return classes_of(raw, metadata, frame.semantic)
    ids = frame_ids(frame)
    return lookup(
        ids, {s.shape.id: s.category for s in frame.segments if isinstance(s.shape, PngId)}
    )


def lookup(ids: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """ids (H, W) -> (H, W) int32 what the table says of each, -1 where it says nothing."""
    known = np.zeros(int(ids.max(initial=0)) + 1, np.int32)  # zeros cost nothing until touched
    for number, value in table.items():
        if 0 <= number < known.size:
            known[number] = value + 1
    return known[ids] - 1


def classes_of(raw: np.ndarray, metadata: Metadata, path: Path) -> np.ndarray:
    """Raw label values (H, W) -> (H, W) int32 classes, -1 where ignored.

    A label_map ignores what it does not name; without one, any other value is an error.

    Args:
        path: where the values come from, for the error.
    """
    raw = _whole_numbers(raw, path)
    K, ignored = len(metadata.classes), metadata.ignore_label
    known = {k: k for k in range(K)} if metadata.label_map is None else metadata.label_map
    table = np.full(max([ignored, *known]) + 2, UNKNOWN, np.int32)  # the last: all that is larger
    for value, label in known.items():
        table[value] = label
    if ignored >= 0:
        table[ignored] = -1
    inside = np.minimum(raw, table.size - 1) if raw.max(initial=0) >= table.size else raw
    classes = table[inside]
    if metadata.label_map is not None:
        return np.maximum(classes, -1)
    if classes.min(initial=0) == UNKNOWN:
        _refuse(raw, classes, metadata, path)
    return classes


def _refuse(raw: np.ndarray, classes: np.ndarray, metadata: Metadata, path: Path) -> None:
    unknown = classes == UNKNOWN
    values, K = np.unique(raw[unknown]), len(metadata.classes)
    shown = ", ".join(map(str, values[:5].tolist())) + (", ..." if len(values) > 5 else "")
    raise DataError(
        f"{path}: {unknown.sum()} pixels have a value that is no class: {shown}; {metadata.name}"
        f" has {K} classes, so expected 0..{K - 1}, or {metadata.ignore_label} (ignore_label);"
        " labels count from 0: correct the file, or give the classes a label_map ({value: class},"
        " the rest is ignored) or another ignore_label"
    )
