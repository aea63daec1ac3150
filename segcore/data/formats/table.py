"""All file formats, by the name that a catalogue entry gives; one's own by its import path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segcore.data.formats import cityscapes, coco_instances, coco_panoptic, label_images, lvis
from segcore.data.formats.format import Format
from segcore.errors import DataError
from segcore.import_path import import_from, is_import_path

# of a path that several recognise, the first one is the format
FORMATS: dict[str, Format] = {
    "coco_panoptic": coco_panoptic.FORMAT,
    "lvis": lvis.FORMAT,
    "coco_instances": coco_instances.FORMAT,
    "label_png": label_images.LABEL_PNG,
    "label_list": label_images.LABEL_LIST,
    "cityscapes_semantic": cityscapes.SEMANTIC,
    "cityscapes_instances": cityscapes.INSTANCES,
    "cityscapes_panoptic": cityscapes.PANOPTIC,
}


def format_of(name: Any, where: str) -> Format:
    """A format of the table, or the one that an import path leads to.

    Args:
        where: the data set, for errors.
    """
    if isinstance(name, str) and name in FORMATS:
        return FORMATS[name]
    if not isinstance(name, str) or not is_import_path(name):
        raise DataError(
            f"{where}: unknown reader {name!r:.80}; there are {', '.join(FORMATS)}, and"
            " package.module:FORMAT of your own"
        )
    format = import_from(name, f"{where}: reader", DataError)
    if not isinstance(format, Format):
        raise DataError(
            f"{where}: {name} is {type(format).__name__}; expected a Format"
            " (segcore/data/formats/format.py)"
        )
    return format


def recognised(path: Path) -> Format:
    """The format of a data set that is given by its path."""
    for format in FORMATS.values():
        if format.recognises(path):
            return format
    raise DataError(
        f"{path}: is neither a JSON nor a folder, so nobody knows its format; name it:"
        f" FORMAT={path}, of {', '.join(FORMATS)}, or package.module:FORMAT of your own"
    )
