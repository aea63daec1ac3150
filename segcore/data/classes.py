"""What the classes of a data set are: from a class list, or from what its files say.

A class list is YAML or JSON: `names`, and where they are not the plain ones `ids` (in the files),
`things` (ids) or `num_things`, `colors`, `ignore_label`, `label_map` (pixel value: class).
"""

from __future__ import annotations

import colorsys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import yaml

from segcore.data.class_list import ClassList, Color, class_list, is_color
from segcore.data.formats.table import READERS
from segcore.data.parsing.json_stream import last_member, read_object
from segcore.data.parsing.values import flag, real, typed, whole
from segcore.errors import DataError
from segcore.structures import Metadata

EVALUATORS = {  # what a data set is judged by where its entry does not say it
    "coco_instances": ("instance",),
    "coco_panoptic": ("panoptic", "instance", "semantic"),
    "label_png": ("semantic",),
    "label_list": ("semantic",),
    "cityscapes_semantic": ("semantic",),
    "cityscapes_instances": ("instance",),
    "cityscapes_panoptic": ("panoptic", "instance", "semantic"),
}
KNOWN_EVALUATORS = ("semantic", "panoptic", "instance", "boundary")
LABEL_READERS = ("label_png", "label_list", "cityscapes_semantic")  # which tell no objects apart
HEADS = ("images", "annotations")
LARGE = 1 << 20  # bytes; a smaller file is parsed before it has been searched
CLASS_FILES = ("classes.json", "classes.yaml")


def read_yaml(file: Path, what: str) -> Any:
    """What a YAML (or JSON) file holds; `what` it should be is said in errors."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: {what} not found") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{file}: {what} is not valid YAML: {error}") from None


@dataclass(frozen=True, slots=True)
class Head:
    """What an annotation file says of itself."""

    categories: list[dict[str, Any]]
    panoptic: bool
    image: str | None  # file name of the first one
    annotated: bool = True  # False: a list of images, as COCO's test sets are


class _Enough(Exception):
    """The rest of the file need not be read."""


def head_of(path: Path) -> Head:
    """Categories and kind of a COCO JSON."""
    try:
        state = path.stat()
    except OSError:
        return _read_head(path, 0, 0)  # which says what is missing
    return _read_head(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)  # a big file takes seconds, and its classes are asked for more than once
def _read_head(path: Path, _changed: int, size: int) -> Head:
    first: dict[str, dict[str, Any]] = {}
    categories = last_member(path, "categories") if size > LARGE else None

    def look(key: str, entry: Any) -> None:
        first.setdefault(key, entry if isinstance(entry, dict) else {})
        if categories and len(first) == len(HEADS):
            raise _Enough

    annotated = True
    with suppress(_Enough):
        content = read_object(path, {k: partial(look, k) for k in HEADS})
        categories, annotated = content.get("categories"), "annotations" in content
    if not isinstance(categories, list) or not categories:
        raise DataError(f"{path}: has no categories; list them as `classes` in a catalogue entry")
    for entry in categories:
        if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
            raise DataError(f"{path}: a category needs `id` and `name`; found {entry!r:.80}")
        typed(entry, "id", whole, f"category {entry['name']!r:.40}", path)
        typed(entry, "isthing", flag, f"category {entry['name']!r:.40}", path, default=True)
    panoptic = all("isthing" in entry for entry in categories)  # a guess
    if "annotations" in first:
        panoptic = "segments_info" in first["annotations"]
    image = first.get("images", {}).get("file_name")
    return Head(categories, panoptic, image if isinstance(image, str) else None, annotated)


def metadata_of(name: str, entry: dict[str, Any]) -> Metadata:
    """Metadata of a catalogue entry."""
    reader = entry["reader"]
    if not isinstance(reader, str) or reader not in READERS:
        raise DataError(f"{name}: unknown reader {reader!r:.80}; there are {', '.join(READERS)}")
    classes = _classes(name, entry)
    K = len(classes.names)
    start = 1 if reader.startswith("coco_") else 0  # COCO counts categories from 1
    ids = classes.ids or tuple(range(start, start + K))
    return Metadata(
        name,
        classes.names,
        ids,
        _things(name, classes, ids, reader),
        classes.colors or _hues(K),
        classes.ignore_label,
        classes.label_map,
        _evaluators(name, entry),
        typed(entry, "boundary_dilation", real, "its catalogue entry", name, default=0.02),
    )


def _evaluators(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """What the entry says, or what is usual; none where there is nothing to compare with."""
    given, reader = entry.get("evaluators"), entry["reader"]
    if given is None:
        from_file = entry.get("classes") is None and reader.startswith("coco_")
        if from_file and not head_of(entry["annotations"]).annotated:
            return ()
        return EVALUATORS.get(reader, ())
    given = [given] if isinstance(given, str) else given
    known = ", ".join(KNOWN_EVALUATORS)
    if not isinstance(given, list):
        raise DataError(f"{name}: evaluators is {given!r:.80}; expected a list of {known}")
    for kind in given:
        if kind not in KNOWN_EVALUATORS and ":" not in str(kind):
            raise DataError(f"{name}: unknown evaluator {kind!r:.80}; there are {known}")
    return tuple(dict.fromkeys(given))


def _classes(name: str, entry: dict[str, Any]) -> ClassList:
    content = entry.get("classes")
    if content is None:
        return _classes_of_files(name, entry)
    if isinstance(content, Path):
        return class_list(read_yaml(content, "class list"), str(content))
    return class_list(content, name)


def _things(name: str, classes: ClassList, ids: tuple[int, ...], reader: str) -> tuple[bool, ...]:
    if classes.things is not None:
        if unknown := sorted(classes.things - set(ids)):
            raise DataError(f"{name}: things has {unknown[:5]}, which are not among the class ids")
        return tuple(i in classes.things for i in ids)
    if classes.num_things is not None:
        return tuple(k < classes.num_things for k in range(len(ids)))
    return (reader not in LABEL_READERS,) * len(ids)


def _classes_of_files(name: str, entry: dict[str, Any]) -> ClassList:
    """Classes as the annotation file, or a classes.json beside the label images, has them."""
    path: Path = entry["annotations"]
    if entry["reader"] == "label_png":
        return _classes_beside(name, path)
    # things first, then stuff, each by id: the order of COCO panoptic
    ordered = sorted(head_of(path).categories, key=lambda c: (not c.get("isthing", 1), c["id"]))
    found: dict[str, Any] = {"names": [c["name"] for c in ordered]}
    found["ids"] = [c["id"] for c in ordered]
    found["num_things"] = sum(bool(c.get("isthing", 1)) for c in ordered)
    if all(is_color(c.get("color")) for c in ordered):
        found["colors"] = [c["color"] for c in ordered]
    return class_list(found, name)


def _classes_beside(name: str, folder: Path) -> ClassList:
    tried = [folder / file for file in CLASS_FILES]
    tried += [parent / file for parent in folder.absolute().parents[:2] for file in CLASS_FILES]
    for file in (file for file in tried if file.exists()):
        return class_list(read_yaml(file, "class list"), str(file))
    raise DataError(
        f"{name}: label images do not say what the classes are called; put a classes.json"
        f' ({{"names": [...], "ignore_label": 255}}) beside {folder}, or write a catalogue entry;'
        f" looked for {', '.join(map(str, tried))}"
    )


def _hues(count: int) -> tuple[Color, ...]:
    """Well-spaced colours."""
    steps = [
        (i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.25 * (i % 3) / 2) for i in range(count)
    ]
    rgb = [colorsys.hsv_to_rgb(*step) for step in steps]
    return tuple((int(255 * r), int(255 * g), int(255 * b)) for r, g, b in rgb)
