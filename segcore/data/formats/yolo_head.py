"""data.yaml of a YOLO data set: its classes, and where the images of its splits lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.data.parsing.text_file import read_text
from segcore.data.parsing.values import typed, whole
from segcore.data.parsing.yaml_file import read_yaml
from segcore.errors import DataError

NAME = "data.yaml"
SPLITS = ("train", "val", "valid", "test", "minival")
LARGEST = 100_000  # classes
SHOWN = 4  # places of an error


@dataclass(frozen=True, slots=True)
class YoloHead:
    """What a data.yaml says.

    Args:
        file: it itself.
        names: of the classes.
        splits: places of images by split, as they are written.
        path: the folder that these start from, as it is written; None: the file's own.
    """

    file: Path
    names: tuple[str, ...]
    splits: dict[str, list[str]]
    path: str | None

    def places(self, split: str) -> list[Path]:
        """Folders of images, or text files that list them."""
        return [self._place(place) for place in self.splits[split]]

    def _place(self, written: str) -> Path:
        """The first one that is there; Roboflow's ../train/images lies beside the file."""
        name, *ends = _ends(written)
        own = name.removeprefix("../")
        names = dict.fromkeys((name, own, *ends))
        tried = [start / text for start in self._starts() for text in names]
        for place in tried:
            if place.exists() or place.with_name(f"{place.name}.zip").is_file():
                return place
        raise DataError(
            f"{self.file}: images {written!r} not found; looked for"
            f" {', '.join(map(str, tried[:SHOWN]))}; correct `path`, or name the folder:"
            f" {self.file}@IMAGES"
        )

    def _starts(self) -> list[Path]:
        here = self.file.parent
        if self.path is None:
            return [here]
        path = self.path.replace("\\", "/")
        # an absolute one is mostly of another machine; a bare name is the folder's own
        return [here / path, here, here.parent / path, here.parent / Path(path).name]

    def listed(self, line: str, place: Path) -> Path:
        """An image of a text file, which starts from the file's folder or that of data.yaml."""
        names = _ends(line.replace("\\", "/").removeprefix("./"))
        starts = (place.parent, *self._starts())
        tried = (start / name for name in names for start in starts)
        return next((file for file in tried if file.exists()), place.parent / names[0])

    def lines(self, place: Path) -> list[str]:
        """Of a text file that lists images."""
        lines = read_text(place, "list of images").splitlines()
        return [line.strip() for line in lines if line.strip()]


def _ends(written: str) -> list[str]:
    """A path with slashes; of an absolute one, which is mostly of another machine, its ends too."""
    name = written.replace("\\", "/")
    if not re.match(r"([A-Za-z]:)?/", name):
        return [name]
    parts = [part for part in name.split("/")[1:] if part]
    return [name, *("/".join(parts[i:]) for i in range(len(parts)))]


def head_file(path: Path) -> Path | None:
    """The data.yaml that a path is, has in it, or has up to three folders above it."""
    if not path.is_dir():
        return path
    folders = [path, *path.absolute().parents[:3]]
    files = [folder / name for folder in folders for name in (NAME, "data.yml", "dataset.yaml")]
    return next((file for file in files if file.is_file()), None)


def head_of(path: Path) -> YoloHead:
    """Read data.yaml; DataError where it is none."""
    file = head_file(path)
    if file is None:
        raise DataError(f"{path}: has no {NAME}, which would name the classes")
    content = read_yaml(file, "YOLO data set")
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no YOLO data set: expected `names`, `train` and `val`")
    splits = {key: _places(content[key], key, file) for key in SPLITS if content.get(key)}
    path_ = typed(content, "path", str, "the file", file, default=None)
    return YoloHead(file, _names(content, file), splits, path_)


def _places(value: Any, key: str, file: Path) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(place, str) and place and "\0" not in place for place in listed):
        raise DataError(f"{file}: {key} is {value!r:.80}; expected a folder, or a list of folders")
    return listed


def _names(content: dict[Any, Any], file: Path) -> tuple[str, ...]:
    names, count = content.get("names"), typed(content, "nc", whole, "the file", file, default=None)
    if names is None and count is not None and 0 < count <= LARGEST:
        names = [f"class_{k}" for k in range(count)]
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError(f"{file}: names has the keys {list(names)!r:.80}; expected 0, 1, 2 ...")
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names or any(n is None or n == "" for n in names):
        raise DataError(f"{file}: names is {names!r:.80}; expected a list of class names")
    if count is not None and count != len(names):
        raise DataError(f"{file}: nc is {count}, but there are {len(names)} names")
    return tuple(map(str, names))


def is_head(path: Path) -> bool:
    """Whether this is a data.yaml, as far as its keys say so."""
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return False
    try:
        content = read_yaml(path, "YOLO data set")
    except DataError:
        return path.stem in ("data", "dataset")  # which says what is wrong with it
    keys = set(content) if isinstance(content, dict) else set[Any]()
    return "reader" not in keys and bool(keys & {"names", "nc"}) and bool(keys & set(SPLITS))
