"""Files that come with the code: configurations, the catalogue of data sets, class lists.

In a checkout they lie beside the package; an installed package has them inside.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from segcore.errors import ConfigError
from segcore.user_path import user_path

OF_DATA = (
    "data are given as --data my/train.json (segcore train plans a config for them), or as"
    " DATASETS.TRAIN '[my/train.json]' behind a CONFIG"
)
PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Where a folder of such files lies.

    Args:
        folder: "configs" or "datasets".
    """
    inside = PACKAGE / folder  # first: beside an installed package others may have the same name
    return inside if inside.is_dir() else PACKAGE.parent / folder


def config_file(name: str | Path) -> Path:
    """The file that a config's name stands for.

    Args:
        name: a path; or of a config that comes along, its path below configs/ ("configs/" in front
            of it may be written, ".yaml" behind it may be left out). A file of one's own goes
            first. ConfigError for a relative path that is neither.
    """
    path = user_path(name)
    if path.is_file() or path.is_absolute():
        return path
    folder, known = shipped("configs"), path.as_posix().removeprefix("configs/")
    for candidate in (folder / known, folder / f"{known}.yaml"):
        if candidate.is_file():
            return candidate
    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.yaml"))]
    near = difflib.get_close_matches(known, names, n=3, cutoff=0.5)
    hint = "" if path.suffix in ("", ".yaml", ".yml") else f"; {OF_DATA}"
    raise ConfigError(
        f"{path}: config file not found (looked for {path.absolute()}, and among those that come"
        f" with segcore); nearest names: {', '.join(near) or 'none'}{hint}"
    )
