"""What the preparation scripts beside this file share: arguments, progress, files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from PIL import Image
from rich.progress import track

HERE = Path(__file__).resolve().parent
SPLITS = {"train": "training", "val": "validation"}  # ADE20K's: in our names, in its folders

Item = TypeVar("Item")
Made = TypeVar("Made")


def arguments(text: str) -> argparse.Namespace:
    """`root` and `workers` from the command line; `text` is what --help says."""
    parser = argparse.ArgumentParser(description=text)
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(root).expanduser(),
        help="where the data sets lie; default: DETECTRON2_DATASETS, else ./datasets",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; default: all cores"
    )
    return parser.parse_args()


def files(folder: Path, pattern: str) -> list[Path]:
    """The folder's files in order; ends the program where there are none."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(
            f"{folder}: no {pattern} there; set DETECTRON2_DATASETS (or --root) to the folder that"
            " holds the data sets as datasets/README.md shows them"
        )
    return found


def each(
    function: Callable[[Item], Made], items: Sequence[Item], workers: int, title: str
) -> Iterator[Made]:
    """Results in order, made by several processes, with a progress bar."""
    if workers <= 1:
        yield from track(map(function, items), title, total=len(items))
        return
    with ProcessPoolExecutor(workers) as pool:
        made = pool.map(function, items, chunksize=max(1, min(64, len(items) // workers)))
        yield from track(made, title, total=len(items))


def run(jobs: Iterable[Any]) -> None:
    """Wait for results that nobody reads."""
    for _ in jobs:
        pass


def labels(path: Path, channels: int = 0) -> np.ndarray:
    """A label image of 8 bits as it is stored: (H, W), or (H, W, channels or more)."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise SystemExit(f"{path}: not found; see datasets/README.md") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SystemExit(f"{path}: cannot be read as an image: {error}") from None
    fits = pixels.ndim == 3 and pixels.shape[2] >= channels if channels else pixels.ndim == 2
    if pixels.dtype != np.uint8 or not fits:
        raise SystemExit(
            f"{path}: is {pixels.dtype} of shape {pixels.shape}; expected uint8 with"
            f" {channels or 1} channel(s)"
        )
    return pixels


def class_list(name: str) -> dict[str, Any]:
    """A file of datasets/classes."""
    return yaml.safe_load((HERE / "classes" / f"{name}.yaml").read_text(encoding="utf-8"))


def image_entry(file: Path) -> dict[str, Any]:
    """A COCO `images` entry; its id is the file's stem."""
    with Image.open(file) as image:
        width, height = image.size
    return {"id": file.stem, "file_name": file.name, "width": width, "height": height}


def box(mask: np.ndarray) -> list[int]:
    """Tight x, y, width, height of a mask (H, W) that is not empty."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def instances(pixels: np.ndarray, file: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(instance category 1..100, mask (H, W)) of ADE20K's annotations_instance.

    Channel 0 is the category, channel 1 the instance, 0 for none.
    """
    for number in np.unique(pixels[..., 1]):
        if number == 0:
            continue
        mask = pixels[..., 1] == number
        categories = np.unique(pixels[..., 0][mask])
        if len(categories) != 1:
            raise SystemExit(f"{file}: instance {number} has categories {categories.tolist()}")
        yield int(categories[0]), mask


def write_json(path: Path, content: dict[str, Any]) -> None:
    """All of it or nothing."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)
