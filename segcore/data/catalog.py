"""Data set names: what they mean is written in YAML, or read from the annotation file itself.

An entry of the catalogue (`datasets/catalog/*.yaml`, or a file of one's own):

    reader: coco_instances
    evaluators: [instance]
    classes: classes/mine.yaml        # left out: from the annotation file
    names:
      mine_train: {images: mine/train, annotations: mine/train.json}
"""

from __future__ import annotations

import colorsys
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segcore.data.readers import IMAGE_SUFFIXES, READERS, Spec, load_json
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.structures import Metadata, Record

CATALOG = Path(__file__).resolve().parents[2] / "datasets" / "catalog"
EVALUATORS = {
    "coco_instances": ("instance",),
    "coco_panoptic": ("panoptic", "instance", "semantic"),
    "label_png": ("semantic",),
}


def load_dataset(
    name: str, root: Path, catalogs: Sequence[Path] = ()
) -> tuple[Metadata, Sequence[Record]]:
    """Classes and records of a data set.

    Args:
        name: of the catalogue, or a path: a COCO JSON, a COCO panoptic JSON, a folder of label
            images; `ANNOTATIONS@IMAGES` where the images do not lie beside them.
        root: what relative paths of the catalogue start from (DETECTRON2_DATASETS).
        catalogs: more YAML files; their relative paths start from the file's own folder.
    """
    entry = find(name, root, catalogs)
    metadata = _metadata(name, entry)
    spec = Spec(
        entry["images"],
        entry["annotations"],
        metadata,
        entry.get("panoptic"),
        entry.get("semantic"),
    )
    reader = entry["reader"]
    if reader not in READERS:
        raise DataError(f"{name}: unknown reader {reader!r}; there are {', '.join(READERS)}")
    return metadata, Records(READERS[reader](spec))


def dataset_metadata(name: str, root: Path, catalogs: Sequence[Path] = ()) -> Metadata:
    """Classes only; where the catalogue lists them, no file of the data set need be there."""
    return _metadata(name, find(name, root, catalogs))


def find(name: str, root: Path, catalogs: Sequence[Path] = ()) -> dict[str, Any]:
    """The entry behind a name, its paths made absolute."""
    entries: dict[str, dict[str, Any]] = {}
    for file in [*sorted(CATALOG.glob("*.yaml")), *map(Path, catalogs)]:
        entries.update(_entries(file, root))
    if name in entries:
        return entries[name]
    if "@" in name or "/" in name or Path(name).exists():
        return _from_path(name)
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    raise DataError(
        f"unknown data set {name!r}; nearest names: {', '.join(near) or 'none'}; a path to"
        " annotations works too (ANNOTATIONS.json@IMAGES), or an own file in DATASETS.CATALOGS"
    )


def _entries(file: Path, root: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise DataError(f"{file}: catalogue file not found") from None
    except yaml.YAMLError as error:
        raise DataError(f"{file}: not valid YAML: {error}") from None
    start = root if file.parent == CATALOG else file.parent
    found = {}
    for block in content if isinstance(content, list) else [content]:
        if not isinstance(block, dict) or not {"reader", "names"} <= block.keys():
            raise DataError(f"{file}: an entry needs `reader` and `names`; see datasets/README.md")
        common = {k: v for k, v in block.items() if k != "names"}
        if isinstance(common.get("classes"), str):
            base = CATALOG.parent if file.parent == CATALOG else file.parent
            common["classes"] = base / common["classes"]
        for name, paths in block["names"].items():
            if not {"images", "annotations"} <= paths.keys():
                raise DataError(f"{file}: {name} needs `images` and `annotations`")
            found[name] = common | {k: start / Path(v).expanduser() for k, v in paths.items()}
    return found


def _from_path(name: str) -> dict[str, Any]:
    """What a path means: the reader from the content, the images from the usual places."""
    text, _, images = name.partition("@")
    path = Path(text).expanduser()
    if not path.exists():
        raise DataError(f"{path}: not found; data sets are names of the catalogue or paths")
    if path.is_dir():
        folder = Path(images) if images else _guess(path, ["../images", "../../images"])
        return {"reader": "label_png", "annotations": path, "images": folder}
    content = load_json(path)
    annotations = content.get("annotations", [])
    panoptic = bool(annotations) and "segments_info" in annotations[0]
    stem = path.stem.removeprefix("panoptic_").removeprefix("instances_")
    places = [stem, f"../{stem}", f"images/{stem}", f"../images/{stem}", "images", "../images", "."]
    folder = Path(images).expanduser() if images else _guess(path.parent, places)
    entry = {"annotations": path, "images": folder, "content": content}
    return entry | {"reader": "coco_panoptic" if panoptic else "coco_instances"}


def _guess(start: Path, places: list[str]) -> Path:
    tried = [(start / place).resolve() for place in places]
    for folder in tried:
        if folder.is_dir() and any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir()):
            return folder
    raise DataError(
        f"{start}: no folder of images in {', '.join(map(str, tried))}; name it: {start}@IMAGES"
    )


def _metadata(name: str, entry: dict[str, Any]) -> Metadata:
    classes = entry.get("classes")
    content: dict[str, Any]
    if isinstance(classes, Path):
        content = yaml.safe_load(classes.read_text())
    elif isinstance(classes, list):
        content = {"names": classes}
    elif isinstance(classes, dict):
        content = classes
    else:
        content = _classes_of_files(name, entry)
    names = tuple(str(n) for n in content["names"])
    start = 1 if entry["reader"] == "coco_instances" and "ids" not in content else 0
    ids = tuple(int(i) for i in content.get("ids") or range(start, start + len(names)))
    if len(ids) != len(names):
        raise DataError(f"{name}: {len(names)} class names but {len(ids)} ids")
    label_map = content.get("label_map")
    return Metadata(
        name,
        names,
        ids,
        _things(content, ids, entry["reader"]),
        tuple(tuple(int(v) for v in c) for c in content.get("colors") or _colors(len(names))),  # type: ignore[misc]
        int(content.get("ignore_label", 255)),
        {int(k): int(v) for k, v in label_map.items()} if label_map else None,
        tuple(entry.get("evaluators") or EVALUATORS.get(entry["reader"], ())),
    )


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
    content = entry.get("content") or load_json(path)
    categories = content.get("categories")
    if not categories:
        raise DataError(f"{path}: has no categories; list them as `classes` in a catalogue entry")
    # things first, then stuff, each by id: the order of COCO panoptic
    ordered = sorted(categories, key=lambda c: (not c.get("isthing", 1), c["id"]))
    found: dict[str, Any] = {"names": [c["name"] for c in ordered]}
    found["ids"] = [c["id"] for c in ordered]
    found["num_things"] = sum(bool(c.get("isthing", 1)) for c in ordered)
    if all("color" in c for c in ordered):
        found["colors"] = [c["color"] for c in ordered]
    return found


def _classes_beside(name: str, folder: Path) -> dict[str, Any]:
    for parent in (folder, *folder.parents[:2]):
        for file in (parent / "classes.json", parent / "classes.yaml"):
            if file.exists():
                content = yaml.safe_load(file.read_text())
                if isinstance(content, list):
                    return {"names": content}
                content["names"] = content.get("names") or content.get("classes")
                content["colors"] = content.get("colors") or content.get("palette")
                if "ignore_index" in content:
                    content["ignore_label"] = content["ignore_index"]
                return content
    raise DataError(
        f"{name}: label images do not say what the classes are called; put a classes.json"
        f' ({{"names": [...], "ignore_label": 255}}) beside {folder}, or write a catalogue entry'
    )


def _colors(count: int) -> list[tuple[int, int, int]]:
    """Well-spaced hues."""
    steps = [
        (i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.25 * (i % 3) / 2) for i in range(count)
    ]
    return [tuple(int(255 * v) for v in colorsys.hsv_to_rgb(*s)) for s in steps]  # type: ignore[misc]
