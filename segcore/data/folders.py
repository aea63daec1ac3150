"""Where the files of a data set lie, and which label image belongs to which photograph."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from segcore.data.image_names import exists_as
from segcore.data.images import IMAGE_SUFFIXES, WHERE
from segcore.data.problem import Problem, Report
from segcore.data.zip_files import zip_names, zip_of
from segcore.errors import DataError
from segcore.image_file import is_companion

EXACT_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


def image_folder(path: Path) -> Path:
    """Where images lie: a folder, or a place inside a zip file.

    `train2017.zip` may hold the images themselves, a single folder of them, or among others one
    called train2017; it also counts where `train2017` is asked for.
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
    called = [folder for folder in folders if folder.rpartition("/")[2] == archive.stem]
    if len(called) == 1:
        return archive / called[0]
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
        files = files_below(folder)
    images: dict[str, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            stem = file.relative_to(folder).with_suffix("").as_posix()
            images.setdefault(unicodedata.normalize("NFC", stem), []).append(file)
    return images


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder; links to folders are followed, except into what they lie in.

    What macOS and Jupyter leave beside the data is passed over.

    Raises:
        DataError: a folder cannot be listed.
    """
    return _below(folder, frozenset())


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Args: above: the folders that this one lies in, by device and number."""
    try:
        state = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    here = state.st_dev, state.st_ino
    if here in above:
        return
    for entry in entries:
        if is_companion(entry):
            continue
        if entry.is_dir():
            yield from _below(entry, above | {here})
        else:
            yield entry


def pairs_by_stem(*, labels: Path, images: Path, problem: Report) -> dict[str, tuple[Path, Path]]:
    """Label image and photograph by their stem; where both lie in one folder, labels are no JPEGs.

    Every label image must have one photograph; photographs without labels are left alone.

    Args:
        labels: their folder.
        images: that of the photographs, or a place in a zip file.
        problem: is given the label images that are no part of a pair; they are left out.
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
    lacking = f"{len(missing)} of {len(truths)} label images have no image with the same name in"
    for stem in missing:
        message = f"{labels}: {lacking} {images}, as {(truths[stem] or [stem])[0]}"
        problem(Problem(message=message, path=labels, kind="label without an image", image=stem))
    pairs = {}
    for stem in sorted(truths.keys() - set(missing)):
        files = truths[stem], photographs[stem]
        if len(files[0]) == len(files[1]) == 1:
            pairs[stem] = files[0][0], files[1][0]
            continue
        several = files[0] if len(files[0]) != 1 else files[1]
        names = ", ".join(map(str, sorted(several))) or "a JPEG alone"
        message = (
            f"{labels}: {stem} is not one label image and one photograph: {names}; put labels into"
            " a folder of their own, one file for each photograph"
        )
        problem(Problem(message=message, path=labels, kind="files of one name", image=stem))
    return pairs


def _is_exact(file: Path) -> bool:
    """Whether pixel values come back as they were written."""
    return file.suffix.lower() in EXACT_SUFFIXES


def first_with(names: list[str], folders: list[Path], annotations: Path) -> Path:
    """The first folder that has a file of one of the names, or is packed into a zip file.

    Args:
        annotations: whose images are looked for, for the error.
    """
    folders = [Path(os.path.normpath(folder)) for folder in folders]
    for folder in folders:
        if any((folder / name).exists() for name in names):
            return folder
        if folder.with_name(f"{folder.name}.zip").is_file():
            return folder
    for folder in folders:  # by what else a name may mean
        if folder.is_dir() and any(exists_as(name, folder) for name in names):
            return folder
    raise DataError(
        f"{annotations}: there is no folder of images (with {names[0]!r} in it); tried"
        f" {', '.join(map(str, folders))}; name it: {annotations}@IMAGES"
    )
