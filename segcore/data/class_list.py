"""What a data set says of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Color = tuple[int, int, int]
CLASS_FILES = ("classes.json", "classes.yaml", "labelmap.txt")  # the last one is CVAT's


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


def class_files(labels: Path) -> list[Path]:
    """Where the class list of a folder of label images may lie: in it, or up to two above."""
    places = (labels, *labels.absolute().parents[:2])
    return [place / name for place in places for name in CLASS_FILES]
