"""All file formats, by the name that a catalogue entry gives; one's own by its import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segcore.data.class_list import class_files
from segcore.data.formats.foreign import refuse_foreign
from segcore.data.formats.format import Format
from segcore.errors import DataError
from segcore.import_path import import_from, is_import_path

FOLDER = "segcore.data.formats"
# imported when one is asked for; of a path that several recognise, the first one is the format
FORMATS: dict[str, str] = {
    "coco_panoptic": f"{FOLDER}.coco_panoptic:FORMAT",
    "youtube_vis": f"{FOLDER}.youtube_vis:FORMAT",
    "lvis": f"{FOLDER}.lvis:FORMAT",
    "labelme": f"{FOLDER}.labelme:FORMAT",
    "label_studio": f"{FOLDER}.label_studio:FORMAT",
    "coco_instances": f"{FOLDER}.coco_instances:FORMAT",
    "yolo": f"{FOLDER}.yolo:FORMAT",
    "cvat": f"{FOLDER}.cvat:FORMAT",
    "mask_folders": f"{FOLDER}.mask_folders:FORMAT",
    "color_png": f"{FOLDER}.color_images:FORMAT",
    "label_png": f"{FOLDER}.label_images:LABEL_PNG",
    "label_list": f"{FOLDER}.label_images:LABEL_LIST",
    "cityscapes_semantic": f"{FOLDER}.cityscapes:SEMANTIC",
    "cityscapes_instances": f"{FOLDER}.cityscapes:INSTANCES",
    "cityscapes_panoptic": f"{FOLDER}.cityscapes:PANOPTIC",
    "datumaro": f"{FOLDER}.from_datumaro:FORMAT",  # recognises nothing: a door that is asked for
}
ANY_FOLDER = "label_png"  # takes every folder, so that what it is instead has to be asked


def format_of(name: Any, where: str = "") -> Format:
    """A format of the table, or the one that an import path leads to.

    Args:
        where: the data set, for errors.
    """
    path = _import_path(name) if isinstance(name, str) else ""
    if not is_import_path(path):
        raise DataError(
            f"{where}: unknown reader {name!r:.80}; there are {', '.join(FORMATS)}, and"
            " package.module:FORMAT of your own"
        )
    format = import_from(path, f"{where}: reader", DataError)
    if not isinstance(format, Format):
        raise DataError(
            f"{where}: {name} is {type(format).__name__}; expected a Format"
            " (segcore/data/formats/format.py)"
        )
    return format


def _import_path(name: str) -> str:
    """Of a name of the table, of NAME:VARIANT, or what it is already."""
    first, _, variant = name.partition(":")
    if variant and first in FORMATS:
        return f"{FORMATS[first].partition(':')[0]}:{variant}"
    return FORMATS.get(name, name)


def all_formats() -> list[Format]:
    """Those of the table, in its order."""
    return [format_of(name) for name in FORMATS]


def recognised(path: Path) -> Format:
    """The format of a data set that is given by its path; DataError names what else it is."""
    for name in FORMATS:
        format = format_of(name)
        if format.recognises(path):
            labels = any(file.exists() for file in class_files(path))
            if name == ANY_FOLDER and not labels:
                refuse_foreign(path)
            return format
    refuse_foreign(path)
    raise DataError(
        f"{path}: is neither a JSON nor a folder, so nobody knows its format; name it:"
        f" FORMAT={path}, of {', '.join(FORMATS)}, or package.module:FORMAT of your own"
    )
