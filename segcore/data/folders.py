"""Where the files of a data set lie, and which label image belongs to which photograph."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from segcore.data.images import IMAGE_SUFFIXES, WHERE, zip_names, zip_of
from segcore.errors import DataError
from segcore.structures import Metadata

EXACT_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Spec:
    """Where the files of one data set lie, and what its classes are."""

    images: Path
    annotations: Path
    metadata: Metadata
    panoptic: Path | None = None
    semantic: Path | None = None


def image_folder(path: Path) -> Path:
    """Where images lie: a folder, or a place inside a zip file.

    `train2017.zip` may hold the images themselves or a single folder of them; it is also found
    where `train2017` is asked for.
    """
    if path.is_dir():
        return path
    archive = path.parent / f"{path.name}.zip"
    if not zip_of(path) and archive.is_file():
        return _inside(archive)
    if path.is_file() and path.suffix == ".zip":
        return _inside(path)
    if zip_of(path):
        return path
    raise DataError(f"{path}: image folder not found (nor {archive.name}); {WHERE}")


def folder_of(path: Path, what: str) -> Path:
    """The folder itself, or an error that says where it was looked for."""
    if not path.is_dir():
        raise DataError(f"{path}: {what} not found; {WHERE}")
    return path


def _inside(archive: Path) -> Path:
    names = [n for n in zip_names(archive) if n.lower().endswith(IMAGE_SUFFIXES)]
    folders = {n.rpartition("/")[0] for n in names}
    common = os.path.commonpath(folders) if folders and "" not in folders else ""
    return archive / common


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Every image below a folder (or inside a zip file) by its path without the suffix."""
    archive = zip_of(folder)
    if archive:
        start = folder.relative_to(archive).as_posix()
        names = zip_names(archive)
        files = [archive / n for n in names if start == "." or n.startswith(f"{start}/")]
    else:
        walk = os.walk(folder, followlinks=True)
        files = [Path(place, name) for place, _, names in walk for name in names]
    found: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            stem = file.relative_to(folder).with_suffix("").as_posix()
            found.setdefault(stem, []).append(file)
    return found


def pairs_by_stem(labels: Path, images: Path) -> dict[str, tuple[Path, Path]]:
    """Label image and photograph by their stem; where both lie in one folder, labels are no JPEGs.

    Every label image must have one photograph; photographs without labels are left alone.
    """
    together = labels.resolve() == images.resolve()
    truths, photographs = images_by_stem(labels), images_by_stem(images)
    if together:
        truths = {k: [f for f in v if _is_exact(f)] for k, v in truths.items() if len(v) > 1}
        photographs = {k: [f for f in v if not _is_exact(f)] for k, v in photographs.items()}
    if not truths:
        raise DataError(
            f"{labels}: has no label image (PNG or TIFF) in it"
            + (" beside a JPEG of the same name" if together else "")
        )
    missing = sorted(stem for stem in truths if not photographs.get(stem))
    if missing:
        raise DataError(
            f"{labels}: {len(missing)} of {len(truths)} label images have no image with"
            f" the same name in {images}, first: {(truths[missing[0]] or [missing[0]])[0]}"
        )
    for stem, files in (*truths.items(), *((k, photographs[k]) for k in truths)):
        if len(files) != 1:
            names = ", ".join(map(str, sorted(files))) or "a JPEG alone"
            raise DataError(
                f"{labels}: {stem} is not one label image and one photograph: {names}; put labels"
                " into a folder of their own, one file for each photograph"
            )
    return {stem: (truths[stem][0], photographs[stem][0]) for stem in sorted(truths)}


def _is_exact(file: Path) -> bool:
    """Whether pixel values come back as they were written."""
    return file.suffix.lower() in EXACT_SUFFIXES
