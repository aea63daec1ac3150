"""Data set names: what they mean is written in YAML, or read from the annotation file itself.

An entry of the catalogue (`datasets/catalog/*.yaml`, or a file of one's own):

    reader: coco_instances
    evaluators: [instance]
    classes: classes/mine.yaml        # left out: from the annotation file
    names:
      mine_train: {images: mine/train, annotations: mine/train.json}
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcore.data.classes import head_of, metadata_of, read_yaml
from segcore.data.folders import Spec, images_by_stem
from segcore.data.formats.table import READERS
from segcore.data.images import IMAGE_SUFFIXES
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.shipped import shipped
from segcore.structures import Metadata

logger = logging.getLogger(__name__)

CATALOG = shipped("datasets") / "catalog"
NEEDED, OPTIONAL = {"images", "annotations"}, {"panoptic", "semantic", "instances"}


def load_dataset(name: str, root: Path, catalogs: Sequence[Path] = ()) -> tuple[Metadata, Records]:
    """Classes and records of a data set.

    Args:
        name: of the catalogue, or a path: a COCO JSON, a COCO panoptic JSON, a folder of label
            images; `ANNOTATIONS@IMAGES` where the images do not lie beside them.
        root: what relative paths of the catalogue start from (DETECTRON2_DATASETS).
        catalogs: more YAML files; their relative paths start from the file's own folder.
    """
    entry = find(name, root, catalogs)
    metadata = metadata_of(name, entry)
    spec = Spec(
        entry["images"],
        entry["annotations"],
        metadata,
        entry.get("panoptic"),
        entry.get("semantic"),
    )
    return metadata, Records(READERS[entry["reader"]](spec))


def dataset_metadata(name: str, root: Path, catalogs: Sequence[Path] = ()) -> Metadata:
    """Classes only; where the catalogue lists them, no file of the data set need be there."""
    return metadata_of(name, find(name, root, catalogs))


def find(name: str, root: Path, catalogs: Sequence[Path] = ()) -> dict[str, Any]:
    """The entry behind a name, its paths made absolute."""
    entries: dict[str, dict[str, Any]] = {}
    for file in _files(CATALOG if CATALOG.is_dir() else root / "catalog"):
        entries.update(_entries(file, file.parents[1], root))
    for file in map(Path, catalogs):
        entries.update(_entries(file, file.parent, file.parent))
    if name in entries:
        return entries[name]
    if "@" in name or "/" in name or Path(name).exists():
        return _from_path(name)
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    raise DataError(
        f"unknown data set {name!r}; nearest names: {', '.join(near) or 'none'}; a path to"
        " annotations works too (ANNOTATIONS.json@IMAGES), or an own file in DATASETS.CATALOGS"
    )


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.yaml"))
    if not files:
        logger.warning("%s: no catalogue there; only paths and own catalogues are known", folder)
    return files


def _entries(file: Path, lists: Path, start: Path) -> dict[str, dict[str, Any]]:
    """Entries of one file; class lists lie below `lists`, everything else below `start`."""
    content = read_yaml(file, "catalogue file")
    found = {}
    for block in content if isinstance(content, list) else [content]:
        if not isinstance(block, dict) or not {"reader", "names"} <= block.keys():
            raise DataError(f"{file}: an entry needs `reader` and `names`; see datasets/README.md")
        unknown = block.keys() - {"reader", "names", "classes", "evaluators", "boundary_dilation"}
        if unknown:
            raise DataError(
                f"{file}: unknown {sorted(map(str, unknown))}; an entry has `reader`, `names`, and"
                " may have `classes`, `evaluators` and `boundary_dilation`"
            )
        common = {k: v for k, v in block.items() if k != "names"}
        if isinstance(common.get("classes"), str):
            common["classes"] = lists / common["classes"]
        if not isinstance(block["names"], dict):
            raise DataError(
                f"{file}: `names` is {block['names']!r:.80}; expected NAME: {{images: FOLDER,"
                " annotations: FILE}"
            )
        for name, paths in block["names"].items():
            if not isinstance(paths, dict) or not NEEDED <= paths.keys() <= NEEDED | OPTIONAL:
                raise DataError(
                    f"{file}: {name} needs `images` and `annotations`, and may have `panoptic`,"
                    f" `semantic` and `instances`; it is {paths}"
                )
            if wrong := [v for v in paths.values() if not isinstance(v, str) or not v]:
                raise DataError(f"{file}: {name} has {wrong[0]!r} where a path is expected")
            found[name] = common | {k: start / Path(v).expanduser() for k, v in paths.items()}
    return found


def _from_path(name: str) -> dict[str, Any]:
    """What a path means: the reader from the content, the images from the usual places."""
    path, images = _split(name)
    if not path.exists():
        raise DataError(
            f"{path}: not found (looked for {path.absolute()}); a data set is a name of the"
            " catalogue, or the path of a COCO JSON or of a folder of label images"
        )
    if path.is_dir():
        reader, wanted = "label_png", _beside_labels(path)
        places = [
            f"../images/{path.name}",
            f"../../images/{path.name}",
            "../images",
            "../../images",
        ]
    else:
        head = head_of(path)
        reader, wanted = "coco_panoptic" if head.panoptic else "coco_instances", [head.image or ""]
        stem = path.stem.removeprefix("panoptic_").removeprefix("instances_")
        beside = [stem, f"../{stem}", f"images/{stem}", f"../images/{stem}"]
        places = [*beside, "images", "../images", "."]
    start = path if path.is_dir() else path.parent
    folders = [Path(os.path.normpath(start / place)) for place in places]
    if reader == "coco_panoptic":  # label PNGs may share the images' names
        folders = [folder for folder in folders if folder != path.with_suffix("")]
    folder = Path(images).expanduser() if images else _guess(path, folders, wanted)
    return {"annotations": path, "reader": reader, "images": folder}


def _split(name: str) -> tuple[Path, str]:
    """Annotations and, behind an `@`, images; a path may have an `@` of its own."""
    places = [i for i, sign in enumerate(name) if sign == "@"]
    for end in (len(name), *places):
        if (path := Path(name[:end]).expanduser()).exists():
            return path, name[end + 1 :]
    text, _, images = name.partition("@")
    return Path(text).expanduser(), images


def _beside_labels(folder: Path) -> list[str]:
    """What the photograph of the first label image may be called."""
    stem = next(iter(sorted(images_by_stem(folder))), "")
    return [stem + suffix for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))]


def _guess(path: Path, folders: list[Path], wanted: list[str]) -> Path:
    """The first folder that has one of the wanted images, or is packed into a zip file."""
    for folder in folders:
        if any((folder / name).exists() for name in wanted):
            return folder
        if folder.with_name(f"{folder.name}.zip").is_file():
            return folder
    raise DataError(
        f"{path}: found no folder of images (with {wanted[0]!r} in it); tried"
        f" {', '.join(map(str, folders))}; name it: {path}@IMAGES"
    )
