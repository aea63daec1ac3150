"""What the classes of a data set are: from a class list, or from what its own files say.

A class list is YAML or JSON: `names`, and where they are not the plain ones `ids` (in the files),
`things` (ids) or `num_things`, `colors`, `ignore_label`, `label_map` (pixel value: class),
`frequencies` (LVIS's).
"""

from __future__ import annotations

import colorsys
from pathlib import Path

from segcore.data.class_list import ClassList, Color
from segcore.data.formats.format import Entry
from segcore.data.parsing.class_list import class_list
from segcore.data.parsing.values import real, typed
from segcore.data.parsing.yaml_file import read_yaml
from segcore.errors import DataError
from segcore.structures import Metadata


def metadata_of(entry: Entry) -> Metadata:
    """Classes, checked; where the entry lists them, no file of the data set is read."""
    classes, format = _classes(entry), entry.format
    K = len(classes.names)
    ids = classes.ids or tuple(range(format.first_id, format.first_id + K))
    return Metadata(
        name=entry.name,
        classes=classes.names,
        dataset_ids=ids,
        is_thing=_things(entry, classes, ids),
        colors=classes.colors or _hues(K),
        ignore_label=classes.ignore_label,
        label_map=classes.label_map,
        evaluators=_evaluators(entry),
        boundary_dilation=_boundary_dilation(entry),
        frequencies=classes.frequencies or (),
    )


def _classes(entry: Entry) -> ClassList:
    if isinstance(entry.classes, Path):
        return class_list(read_yaml(entry.classes, "class list"), str(entry.classes))
    if entry.classes is not None:
        return class_list(entry.classes, entry.name)
    if entry.format.classes is None:
        raise DataError(
            f"{entry.name}: files of the format {entry.format.name} do not say what the classes"
            " are; list them as `classes` in the catalogue entry"
        )
    return entry.format.classes(entry.source)


def _evaluators(entry: Entry) -> tuple[str, ...]:
    """What the entry says, or what is usual; none where there is nothing to compare with."""
    given, format = entry.evaluators, entry.format
    if given is None:
        if entry.classes is None and format.annotated and not format.annotated(entry.source):
            return ()
        return format.evaluators
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(kind, str) for kind in given):
        usual = ", ".join(format.evaluators)
        raise DataError(
            f"{entry.name}: evaluators is {given!r:.80}; expected a list of names, such as {usual}"
        )
    return tuple(dict.fromkeys(given))


def _boundary_dilation(entry: Entry) -> float:
    key, given = "boundary_dilation", entry.boundary_dilation
    return typed({key: given}, key, real, "its catalogue entry", entry.name, default=0.02)


def _things(entry: Entry, classes: ClassList, ids: tuple[int, ...]) -> tuple[bool, ...]:
    if classes.things is not None:
        if unknown := sorted(classes.things - set(ids)):
            raise DataError(
                f"{entry.name}: things has {unknown[:5]}, which are not among the class ids"
            )
        return tuple(i in classes.things for i in ids)
    if classes.num_things is not None:
        return tuple(k < classes.num_things for k in range(len(ids)))
    return (entry.format.things,) * len(ids)


def _hues(count: int) -> tuple[Color, ...]:
    """Well-spaced colours."""
    steps = [
        (i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.25 * (i % 3) / 2) for i in range(count)
    ]
    rgb = [colorsys.hsv_to_rgb(*step) for step in steps]
    return tuple((int(255 * r), int(255 * g), int(255 * b)) for r, g, b in rgb)
