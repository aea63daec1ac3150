"""What a data set says of its classes."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClassList:
    """What is said of the classes; None where nothing is."""

    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None  # in the files
    things: frozenset[int] | None = None  # ids
    num_things: int | None = None
    colors: tuple[Color, ...] | None = None
    ignore_label: int = 255
    label_map: dict[int, int] | None = None  # pixel value: class
    frequencies: tuple[str, ...] | None = None  # LVIS: "r" rare, "c" common, "f" frequent
