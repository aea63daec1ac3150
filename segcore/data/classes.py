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

from segcore.data.json_stream import last_member, read_object
from segcore.data.readers import READERS
from segcore.errors import DataError
from segcore.structures import Metadata

EVALUATORS = {
    "coco_instances": ("instance",),
    "coco_panoptic": ("panoptic", "instance", "semantic"),
    "label_png": ("semantic",),
}
HEADS = ("images", "annotations")
LARGE = 1 << 20  # bytes; a smaller file is parsed before it has been searched
CLASS_FILES = ("classes.json", "classes.yaml")
CLASS_WORDS = {  # what others call it
    "classes": "names",
    "palette": "colors",
    "ignore_index": "ignore_label",
}


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

    with suppress(_Enough):
        categories = read_object(path, {k: partial(look, k) for k in HEADS}).get("categories")
    if not isinstance(categories, list) or not categories:
        raise DataError(f"{path}: has no categories; list them as `classes` in a catalogue entry")
    for entry in categories:
        if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
            raise DataError(f"{path}: a category needs `id` and `name`; found {entry}")
    panoptic = all("isthing" in entry for entry in categories)  # a guess
    if "annotations" in first:
        panoptic = "segments_info" in first["annotations"]
    return Head(categories, panoptic, first.get("images", {}).get("file_name"))


def metadata_of(name: str, entry: dict[str, Any]) -> Metadata:
    """Metadata of a catalogue entry."""
    reader = entry["reader"]
    if reader not in READERS:
        raise DataError(f"{name}: unknown reader {reader!r}; there are {', '.join(READERS)}")
    content = _classes(name, entry)
    names = tuple(str(n) for n in content["names"])
    start = 1 if reader.startswith("coco_") else 0  # COCO counts categories from 1
    ids = tuple(int(i) for i in content.get("ids") or range(start, start + len(names)))
    colors = tuple(_color(name, c) for c in content.get("colors") or _colors(len(names)))
    for what, values in (("ids", ids), ("colors", colors)):
        if len(values) != len(names):
            raise DataError(f"{name}: {len(names)} class names but {len(values)} {what}")
    if len(set(ids)) != len(ids):
        raise DataError(f"{name}: class ids are not unique: {sorted(ids)}")
    label_map = content.get("label_map")
    return Metadata(
        name,
        names,
        ids,
        _things(content, ids, reader),
        colors,
        int(content.get("ignore_label", 255)),
        {int(k): int(v) for k, v in label_map.items()} if label_map else None,
        tuple(entry.get("evaluators") or EVALUATORS.get(reader, ())),
    )


def _classes(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """`names`, and perhaps ids, things, colors, ignore_label, label_map."""
    content = entry.get("classes")
    if content is None:
        content = _classes_of_files(name, entry)
    if isinstance(content, Path):
        content = read_yaml(content, "class list")
    if isinstance(content, list):
        content = {"names": content}
    if not isinstance(content, dict) or not isinstance(content.get("names"), list):
        raise DataError(
            f"{name}: `classes` must be a list of names, or have `names`; found {content!r:.80}"
        )
    return content


def _color(name: str, color: Any) -> tuple[int, int, int]:
    if isinstance(color, list) and len(color) == 3:
        return int(color[0]), int(color[1]), int(color[2])
    raise DataError(f"{name}: {color!r} is no colour; expected [red, green, blue]")


def _things(content: dict[str, Any], ids: tuple[int, ...], reader: str) -> tuple[bool, ...]:
    if "things" in content:
        return tuple(i in set(content["things"]) for i in ids)
    if "num_things" in content:
        return tuple(k < content["num_things"] for k in range(len(ids)))
    return tuple(reader != "label_png" for _ in ids)


def _classes_of_files(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Classes as the annotation file, or a classes.json beside the label images, has them."""
    path: Path = entry["annotations"]
    if entry["reader"] == "label_png":
        return _classes_beside(name, path)
    categories = head_of(path).categories
    # things first, then stuff, each by id: the order of COCO panoptic
    ordered = sorted(categories, key=lambda c: (not c.get("isthing", 1), c["id"]))
    found: dict[str, Any] = {"names": [c["name"] for c in ordered]}
    found["ids"] = [c["id"] for c in ordered]
    found["num_things"] = sum(bool(c.get("isthing", 1)) for c in ordered)
    if all("color" in c for c in ordered):
        found["colors"] = [c["color"] for c in ordered]
    return found


def _classes_beside(name: str, folder: Path) -> dict[str, Any]:
    tried = [folder / file for file in CLASS_FILES]
    tried += [parent / file for parent in folder.absolute().parents[:2] for file in CLASS_FILES]
    for file in (file for file in tried if file.exists()):
        content = read_yaml(file, "class list")
        if not isinstance(content, dict):
            return {"names": content}
        return content | {
            ours: content[theirs] for theirs, ours in CLASS_WORDS.items() if theirs in content
        }
    raise DataError(
        f"{name}: label images do not say what the classes are called; put a classes.json"
        f' ({{"names": [...], "ignore_label": 255}}) beside {folder}, or write a catalogue entry;'
        f" looked for {', '.join(map(str, tried))}"
    )


def _colors(count: int) -> list[list[float]]:
    """Well-spaced hues."""
    steps = [
        (i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.25 * (i % 3) / 2) for i in range(count)
    ]
    return [[255 * v for v in colorsys.hsv_to_rgb(*step)] for step in steps]
