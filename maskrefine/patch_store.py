"""Training patches in one file: a NumPy array that is mapped into memory, 13 kB a patch.

The published program writes three PNGs for each of a million patches.

Legend of one-letter names: P patches, s side of a patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from segcore.data.class_list import ClassList
from segcore.data.formats.format import Format
from segcore.errors import DataError
from segcore.structures import Frame, PngId, Record, Segment
from segcore.whole_file import whole_file

STORE_SUFFIX = ".npy"
CLASSES = ("background", "foreground")


@dataclass(frozen=True, slots=True)
class Patches:
    """What a patch is trained on; P of each."""

    images: np.ndarray  # (P, 3, s, s) uint8 RGB
    coarse: np.ndarray  # (P, s, s) bool
    truth: np.ndarray  # (P, s, s) bool


def _dtype(size: int) -> np.dtype:
    bits = (-(-size * size // 8),)
    return np.dtype(
        [("image", "u1", (3, size, size)), ("coarse", "u1", bits), ("truth", "u1", bits)]
    )


def write_patches(path: Path, parts: Iterable[Patches], size: int) -> int:
    """Write all patches, whole or not at all; how many there were.

    Args:
        path: of a new .npy file.
        size: s
    """
    kind, count = _dtype(size), 0
    with whole_file(path) as file:
        start = _write_header(file, kind, 0)
        for part in parts:
            rows = np.empty(len(part.images), kind)
            rows["image"] = part.images
            for name in ("coarse", "truth"):
                rows[name] = np.packbits(getattr(part, name).reshape(len(rows), -1), axis=1)
            file.write(rows.tobytes())
            count += len(rows)
        file.seek(0)
        if _write_header(file, kind, count) != start:  # NumPy leaves room for a longer number
            raise AssertionError("the header of a .npy file has grown")
    return count


def _write_header(file, kind: np.dtype, count: int) -> int:
    header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": (count,)}
    npy.write_array_header_1_0(file, header)
    return file.tell()


@lru_cache(maxsize=4)
def open_patches(path: Path) -> np.ndarray:
    """(P,) rows of a store, in the file; a row is read when it is asked for."""
    try:
        rows = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: no such store of patches; write it first") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a store of patches ({error})") from None
    if rows.dtype.names != ("image", "coarse", "truth"):
        raise DataError(f"{path}: is a NumPy array, but no store of patches; write it anew")
    return rows


def read_patch(path: Path, number: int) -> Patches:
    """One of a store, as Patches with P = 1."""
    row = open_patches(path)[number : number + 1]
    size = row["image"].shape[-1]
    coarse, truth = (
        np.unpackbits(row[name], axis=1)[:, : size * size].reshape(-1, size, size).astype(bool)
        for name in ("coarse", "truth")
    )
    return Patches(np.array(row["image"]), coarse, truth)


def patch_records(path: Path) -> Iterator[Record]:
    """Every patch as a record of its own, for the loader; its file is the store."""
    rows = open_patches(path)
    size = rows.dtype["image"].shape[-1]
    for i in range(len(rows)):
        yield Record(i, (size, size), (Frame(path, (Segment(0, PngId(i)),)),))


FORMAT = Format(  # maskrefine.patch_store:FORMAT=patches.npy in DATASETS
    name="boundary_patches",
    read=lambda source, metadata: patch_records(source.annotations),
    recognises=lambda path: path.suffix == STORE_SUFFIX,
    images_beside=lambda path: path.parent,
    classes=lambda source: ClassList(CLASSES, num_things=0),
    images=False,
    evaluators=("maskrefine.patch_training:patch_evaluator",),
)
