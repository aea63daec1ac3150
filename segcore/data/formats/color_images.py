"""Colour-coded label images, with the palette of the tool that wrote them.

The palette is a label_colors.txt (CamVid), a class_dict.csv, or what `label_png` reads: a
labelmap.txt (CVAT), the `colors` of a classes.json. It lies in the folder of label images or up to
two above it.
"""

from __future__ import annotations

import re
from pathlib import Path

from segcore.data.class_list import ClassList, Color
from segcore.data.formats.format import Format, Source
from segcore.data.formats.label_images import classes_beside, images_beside, read_folder
from segcore.data.formats.label_writing import write_colors
from segcore.data.parsing.text_file import read_text
from segcore.errors import DataError

PALETTES = {
    "label_colors.txt": re.compile(r"(?P<color>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)"),
    "class_dict.csv": re.compile(r"(?P<name>[^,]+),\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)\s*"),
}


def _palette_file(folder: Path) -> Path | None:
    folders = [folder, *folder.absolute().parents[:2]]
    files = [place / name for place in folders for name in PALETTES]
    return next((file for file in files if file.is_file()), None)


def classes(source: Source) -> ClassList:
    """Names and colours of the palette, in its order; DataError where a colour stands twice."""
    file = _palette_file(source.annotations)
    listed = classes_beside(source) if file is None else _palette(file)
    if listed.colors is None:
        raise DataError(
            f"{source.annotations}: its class list has no `colors` ([red, green, blue])"
        )
    if len(set(listed.colors)) != len(listed.colors):
        twice = next(c for c in listed.colors if listed.colors.count(c) > 1)
        raise DataError(f"{file or source.annotations}: two classes have the colour {twice}")
    return listed


def _palette(file: Path) -> ClassList:
    lines = read_text(file, "palette").splitlines()
    names, colors = list[str](), list[Color]()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#") or (number == 1 and not re.search(r"\d", line)):
            continue  # the last is a head of columns
        found = PALETTES[file.name].fullmatch(line.strip())
        color = [int(value) for value in re.findall(r"\d+", found["color"])] if found else [256]
        if found is None or max(color) > 255:
            raise DataError(
                f"{file}: line {number}, {line!r:.60}, is no class with a colour of three numbers,"
                " 0 to 255"
            )
        names.append(found["name"].strip())
        colors.append((color[0], color[1], color[2]))
    if not names:
        raise DataError(f"{file}: palette without a class")
    # an image of greys alone could be one of numbers; these are the classes that it may show
    greys = {color[0]: k for k, color in enumerate(colors) if len(set(color)) == 1}
    return ClassList(tuple(names), colors=tuple(colors), label_map=greys or None)


FORMAT = Format(
    name="color_png",
    read=read_folder,
    recognises=lambda path: path.is_dir() and _palette_file(path) is not None,
    images_beside=images_beside,
    classes=classes,
    evaluators=("semantic",),
    things=False,
    write=write_colors,
)
