"""From label images to ids and classes.

Legend of one-letter names: K classes, H W pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segcore.errors import DataError
from segcore.label_files import LabelFile, check_palette, plain_values, read_label_file
from segcore.structures import Frame, Metadata, PngId

UNKNOWN = -2  # class of a label value that nothing explains


def panoptic_file(frame: Frame) -> Path:
    """The frame's panoptic PNG, or an error that names the image."""
    if frame.panoptic is None:
        raise DataError(f"{frame.file}: segments refer to a panoptic PNG, but none is given")
    return frame.panoptic


def read_ids(path: Path) -> np.ndarray:
    """Panoptic PNG -> (H, W) int32 ids: R + 256 G + 65536 B, or the grey value itself."""
    return next(_readings(path))


def _readings(path: Path) -> Iterator[np.ndarray]:
    """What the ids (H, W) int32 of a panoptic PNG may be, the likely ones first."""
    file = read_label_file(path)
    pixels = _whole_numbers(file.pixels, path)
    if file.palette is not None:
        red, green, blue = file.palette.astype(np.int32).T
        grey = (red == green).all() and (red == blue).all()
        colors = red if grey else red + 256 * green + 65536 * blue
        yield colors[np.minimum(pixels, len(colors) - 1)]
        yield pixels.astype(np.int32)
    elif pixels.ndim == 2:
        yield pixels.astype(np.int32)
        if file.bits < 8:  # what a program that makes PNGs smaller made of larger numbers
            yield pixels.astype(np.int32) * (255 // (2**file.bits - 1))
    elif pixels.shape[2] < 3:
        raise DataError(
            f"{path}: has {pixels.shape[2]} channels (grey and alpha); expected red, green and"
            " blue, or grey alone; save it without alpha"
        )
    else:
        red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
        yield red + 256 * green + 65536 * blue


def frame_ids(frame: Frame) -> np.ndarray:
    """The frame's panoptic ids (H, W); an error where none of its segments is in the PNG."""
    path = panoptic_file(frame)
    numbers = [s.shape.id for s in frame.segments if isinstance(s.shape, PngId)]
    readings = _readings(path)
    ids = next(readings)
    for other in readings:
        if lost_ids(ids, numbers) and not lost_ids(other, numbers):
            ids = other
    if numbers and not any((ids == number).any() for number in numbers):  # the first one, mostly
        refuse_bgr(ids, numbers, path)
        raise DataError(
            f"{path}: has none of the {len(numbers)} segment ids that its annotation lists (the"
            f" first is {numbers[0]}); expected id = R + 256 G + 65536 B; is it another image's?"
        )
    return ids


def lost_ids(ids: np.ndarray, numbers: Sequence[int]) -> list[int]:
    """Those that no pixel of ids (H, W) has."""
    there = set(np.unique(ids).tolist()) if numbers else set[int]()
    return [number for number in numbers if number not in there]


def refuse_bgr(ids: np.ndarray, numbers: Sequence[int], path: Path) -> None:
    """DataError where all ids are in the PNG (H, W), once its red is taken for blue."""
    swapped = (ids & 0xFF00) | (ids & 0xFF) << 16 | ids >> 16
    if not lost_ids(swapped, numbers):
        raise DataError(
            f"{path}: red and blue are exchanged, so its pixels have other ids than its annotation"
            " lists; expected id = R + 256 G + 65536 B (cv2.imwrite wants rgb[..., ::-1])"
        )


def read_png(path: Path) -> np.ndarray:
    """Label image as it is stored, palette indices included: (H, W) or (H, W, 2+)."""
    return read_label_file(path).pixels


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
        return _classes_in(read_label_file(frame.semantic), metadata)
    ids = frame_ids(frame)
    return lookup(
        ids, {s.shape.id: s.category for s in frame.segments if isinstance(s.shape, PngId)}
    )


def _classes_in(file: LabelFile, metadata: Metadata) -> np.ndarray:
    """(H, W) int32 classes, by values or, where the file has colours, by the classes' colours."""
    values = plain_values(file)
    if values is None and file.palette is not None:
        values = file.pixels if _entries_are_values(file, metadata) else None
    if values is not None:
        return classes_of(values, metadata, file.path)
    rgb = file.pixels[..., :3] if file.palette is None else file.palette[file.pixels]
    numbers = rgb.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    K, white = len(metadata.classes), metadata.ignore_label * 0x010101
    table = {r + 256 * g + 65536 * b: k for (r, g, b), k in _class_of_color(metadata).items()}
    classes = lookup(numbers, {white: K, **table})
    if classes.min(initial=0) < 0:
        unknown = np.unique(numbers[classes < 0])
        colors = [(int(n) & 255, int(n) >> 8 & 255, int(n) >> 16) for n in unknown[:3]]
        raise DataError(
            f"{file.path}: has colours, and {(classes < 0).sum()} pixels have one of no class:"
            f" {', '.join(map(str, colors))}; list `colors` ([red, green, blue] of each class)"
            " beside `names`, or save class numbers in one channel"
        )
    return np.where(classes == K, -1, classes)


def _class_of_color(metadata: Metadata) -> dict[tuple[int, int, int], int]:
    """Without colours that two classes share."""
    count = Counter(metadata.colors)
    return {color: k for k, color in enumerate(metadata.colors) if count[color] == 1}


def _entries_are_values(file: LabelFile, metadata: Metadata) -> bool:
    """Whether the numbers of a coloured palette are classes: no class's colour says otherwise."""
    assert file.palette is not None
    by_color, label_map = _class_of_color(metadata), metadata.label_map
    used = np.flatnonzero(np.bincount(file.pixels.ravel())).tolist()
    for entry in used:
        red, green, blue = file.palette[min(entry, len(file.palette) - 1)].tolist()
        number = entry if label_map is None else label_map.get(entry, -1)
        if by_color.get((red, green, blue), number) != number:
            return False
    check_palette(file)
    return True


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
    if metadata.label_map is not None and not metadata.strict_labels:
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
