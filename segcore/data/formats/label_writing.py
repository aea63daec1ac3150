"""Label images as they are written: class numbers, or colours of classes.

Legend of one-letter names: H W pixels, K classes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.data.class_list import Color
from segcore.data.formats.class_file import write_class_file
from segcore.data.formats.format import Goal
from segcore.data.still_segments import label_image
from segcore.errors import DataError
from segcore.structures import Metadata, Record

IGNORED = 255  # as a colour: white


def write_numbers(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`labels/<split>/*.png`: 0..K-1, of 16 bits where there are many classes."""
    many = len(metadata.classes) > 255
    ignored, kind = (65535, np.uint16) if many else (255, np.uint8)
    write_class_file(metadata, goal.folder, things=False, ignore_label=ignored)
    return _write(
        metadata, records, goal, lambda labels: np.where(labels < 0, ignored, labels).astype(kind)
    )


def write_colors(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`labels/<split>/*.png`: the classes' colours; white where nothing is annotated."""
    if len(metadata.classes) > IGNORED:
        raise DataError(
            f"{metadata.name} has {len(metadata.classes)} classes; label images in colours hold"
            f" {IGNORED} at most: convert to label images of class numbers, which hold more"
        )
    colors = told_apart(metadata.colors)
    write_class_file(metadata, goal.folder, things=False, colors=colors, ignore_label=IGNORED)
    palette = np.array([*colors, [IGNORED] * 3], np.uint8)  # the last is -1
    return _write(metadata, records, goal, lambda labels: palette[labels])


def _write(
    metadata: Metadata,
    records: Iterable[Record],
    goal: Goal,
    pixels_of: Callable[[np.ndarray], np.ndarray],
) -> Path:
    folder = goal.folder / "labels" / goal.split
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        segments = record.frames[0].segments
        if objects := sum(metadata.is_thing[s.category] and not s.crowd for s in segments):
            goal.lost["objects that are no longer kept apart from others of their class"] += objects
        if crowds := sum(segment.crowd for segment in segments):
            goal.lost["crowd regions, which become their class"] += crowds
        file = folder / f"{goal.stem(record)}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(label_image(record, metadata, goal.lost))).save(file)
    return folder


def told_apart(colors: Iterable[Color]) -> list[Color]:
    """The same colours, but others for greys, which could be numbers, and for repeated ones."""
    kept: list[Color] = []
    for color in colors:
        shown, more = color, _more()
        while shown in kept or len(set(shown)) == 1:
            shown = next(more)
        kept.append(shown)
    return kept


def _more() -> Iterator[Color]:
    """Colours in a row that takes long to come back to one."""
    for step in count():
        hue, value = step * 0.618034 % 1, 0.95 - 0.5 * (step * 0.137 % 1)
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.8, value)
        yield int(255 * red), int(255 * green), int(255 * blue)
