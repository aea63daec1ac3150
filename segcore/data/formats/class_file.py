"""classes.json: what label images and files of annotation tools do not say of their classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcore.data.class_list import CLASS_FILES, ClassList, Color
from segcore.data.parsing.class_list import class_list
from segcore.data.parsing.yaml_file import read_yaml
from segcore.errors import DataError
from segcore.structures import Metadata
from segcore.whole_file import whole_file


def class_file_in(folders: Sequence[Path]) -> ClassList | None:
    """The first one that is there."""
    for file in (folder / name for folder in folders for name in CLASS_FILES):
        if file.suffix != ".txt" and file.is_file():  # that is of label images
            return class_list(read_yaml(file, "class list"), str(file))
    return None


def write_class_file(
    metadata: Metadata,
    folder: Path,
    *,
    things: bool,
    colors: Sequence[Color] | None = None,
    ignore_label: int | None = None,
) -> None:
    """Write classes.json, or see that the one that is there says the same.

    Args:
        things: whether it is said which classes are things.
        colors: in place of the classes' own.
        ignore_label: of label images.

    Raises:
        DataError: another split that is there has other classes.
    """
    content: dict[str, Any] = {"names": list(metadata.classes)}
    if things:
        content["things"] = [k for k, thing in enumerate(metadata.is_thing) if thing]
    content["colors"] = [list(color) for color in colors or metadata.colors]
    if ignore_label is not None:
        content["ignore_label"] = ignore_label
    path = folder / CLASS_FILES[0]
    if path.is_file() and read_yaml(path, "class list") != content:
        raise DataError(f"{path}: has other classes; write this split into another folder")
    with whole_file(path, "w") as stream:
        json.dump(content, stream, ensure_ascii=False)
