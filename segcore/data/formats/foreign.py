"""Files that people point at first: other tools' own formats, by what they are and what to do.

Nothing here is read as data. A folder, or a file that no format takes, is looked at once more, so
that the error names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from segcore.data.parsing.text_file import decoded
from segcore.errors import DataError

LARGEST = 1 << 26  # bytes; a larger file is not looked at
LOOKED_AT = 20  # files of a folder
HEAD = 4096  # letters
TEXTS = (".yaml", ".yml", ".xml", ".txt")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".rar", ".7z")

EXPORT_COCO = "export COCO JSON from the tool instead, which is read here"


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and set(keys) <= content.keys()


def _lists(*keys: str) -> Callable[[Any], bool]:
    """A list of objects with these keys."""
    has = _has(*keys)
    return lambda content: isinstance(content, list) and bool(content) and has(content[0])


def _is_via(content: Any) -> bool:
    """VIA's project, or the annotations alone: {"name123": {"filename": ..., "regions": ...}}."""
    if not isinstance(content, dict) or not content:
        return False
    return "_via_img_metadata" in content or _has("filename", "regions")(
        next(iter(content.values()))
    )


# of JSON: what it is, how it is recognised, what to do
JSON_KINDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("a project of VIA", _is_via, 'in VIA, "Annotation > Export Annotations (COCO format)"'),
    (
        "a list of predictions",
        _lists("image_id", "category_id"),
        "name the annotations they belong to; `segcore measure` takes predictions",
    ),
    ("CreateML's JSON of boxes", _lists("image", "annotations"), "it has no masks to learn from"),
    ("Labelbox's own JSON", _lists("data_row"), EXPORT_COCO),
    (
        "Label Studio's JSON-MIN, which does not hold whole masks",
        _lists("annotator", "annotation_id"),
        "in Label Studio, export as JSON",
    ),
    ("Supervisely's file of one image", _has("objects", "size"), EXPORT_COCO),
    (
        "Cityscapes' polygons of one image",
        _has("objects", "imgHeight"),
        "name the data set by a catalogue entry with `reader: cityscapes_instances`, which reads"
        " gtFine's PNGs",
    ),
    ("a project of VoTT", _has("assets", "tags"), EXPORT_COCO),
    (
        "GeoJSON",
        _has("type", "features"),
        "cut the map into tiles, and write their polygons in pixels as COCO JSON",
    ),
)
XML_KINDS = {  # by their outermost element
    "annotation": (
        "Pascal VOC's XML of one image, which has boxes and no masks",
        "give the folder of label images: VOC/SegmentationClass@VOC/JPEGImages",
    ),
}
YOLO = "give the data.yaml of the data set, or put one beside the folders `images` and `labels`"


def refuse_foreign(path: Path) -> None:
    """DataError where the path leads to another tool's format."""
    if kind := foreign(path):
        raise DataError(f"{path}: is {kind}")


def foreign(path: Path) -> str | None:
    """What a path leads to, and what to do, where that is another tool's format; else None."""
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in ARCHIVES:
        return "packed; unpack it, and give the annotation file in it, or its folder of annotations"
    text = _text(path)
    if text is None:
        return None
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return _yaml(text)
    if suffix == ".txt":
        return f"YOLO's labels of one image; {YOLO}" if _is_yolo(text) else None
    if text.lstrip().startswith("<"):
        return _xml(text)
    return _json(text)


def _text(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        if path.is_file() and path.stat().st_size <= LARGEST:
            return decoded(path.read_bytes())
    return None


def _json(text: str) -> str | None:
    try:
        content = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines()[:2] if line.lstrip().startswith("{")]
        with suppress(ValueError):
            if len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines):
                return f"a JSON object on each line (ndjson), as Labelbox exports; {EXPORT_COCO}"
        return None
    for name, recognises, advice in JSON_KINDS:
        if recognises(content):
            return f"{name}; {advice}"
    return None


def _xml(text: str) -> str | None:
    for root, (name, advice) in XML_KINDS.items():
        if f"<{root}>" in text[:HEAD] or f"<{root} " in text[:HEAD]:
            return f"{name}; {advice}"
    return None


def _yaml(text: str) -> str | None:
    with suppress(yaml.YAMLError):
        content = yaml.safe_load(text)
        if _has("reader", "names")(content):
            return "a catalogue file; put it into DATASETS.CATALOGS, and give a name that it lists"
    return None


def _is_yolo(text: str) -> bool:
    """Whether each line is a class and coordinates of 0..1."""
    lines = [line.split() for line in text.splitlines()[:LOOKED_AT] if line.strip()]
    with suppress(ValueError):
        return bool(lines) and all(
            len(line) >= 5 and line[0].isdecimal() and all(0 <= float(x) <= 1.01 for x in line[1:])
            for line in lines
        )
    return False


def _folder(folder: Path) -> str | None:
    """Of a folder: what lies in it, or in folders right below it, instead of label images."""
    places = [folder, *islice((p for p in _listed(folder) if p.is_dir()), LOOKED_AT)]
    jsons = [f for place in places for f in islice(_ending(place, ".json"), LOOKED_AT)]
    heads = [f for p in places for end in (".yaml", ".yml", ".xml") for f in _ending(p, end)]
    readable = [file for file in jsons if _is_coco(file)]
    if readable := readable or [file for file in (*heads, *jsons) if _is_tools(file)]:
        names = ", ".join(map(str, readable[:3])) + (", ..." if len(readable) > 3 else "")
        return f"a folder; give the annotation file in it: {names}"
    if (folder / "SegmentationClass").is_dir() and (folder / "JPEGImages").is_dir():
        pair = f"{folder / 'SegmentationClass'}@{folder / 'JPEGImages'}"
        return f"Pascal VOC's folder; give {pair}, with a classes.json in {folder}"
    texts = (f for place in places for suffix in TEXTS for f in _ending(place, suffix))
    for file in (*jsons[:LOOKED_AT], *islice(texts, LOOKED_AT)):
        if kind := foreign(file):
            return f"a folder with {file}, which is {kind}"
    return None


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _ending(folder: Path, suffix: str) -> Iterator[Path]:
    return (p for p in _listed(folder) if p.suffix.lower() == suffix and p.stem != "classes")


def _is_coco(file: Path) -> bool:
    text = _text(file)
    if text is None:
        return file.stat().st_size > LARGEST  # nothing else is that large
    with suppress(ValueError):
        content = json.loads(text)
        lists = (content.get(key) for key in ("images", "videos")) if _has()(content) else ()
        return any(isinstance(entries, list) for entries in lists)
    return False


def _is_tools(file: Path) -> bool:
    """Whether it is one file with all annotations of a tool, which is read: CVAT's, YOLO's ..."""
    text = _text(file)
    if text is None or file.suffix == ".xml":
        return "<annotations>" in (text or "")[:HEAD]
    if file.suffix == ".json":
        return text[:HEAD].lstrip().startswith("[") and '"annotations"' in text and '"data"' in text
    with suppress(yaml.YAMLError):
        content = yaml.safe_load(text)
        return _has("names")(content) and not _has("reader")(content) and "train" in content
    return False
