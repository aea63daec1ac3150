"""Folders of label images, and lists of them: classes of pixels, no objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segcore.data.class_list import ClassList, class_files
from segcore.data.folders import (
    first_with,
    folder_of,
    image_folder,
    images_by_stem,
    pairs_by_stem,
)
from segcore.data.formats.format import Format, Source
from segcore.data.formats.label_writing import write_numbers
from segcore.data.images import IMAGE_SUFFIXES, image_sizes
from segcore.data.parsing.class_list import class_list
from segcore.data.parsing.text_file import read_text
from segcore.data.parsing.yaml_file import read_yaml
from segcore.data.problem import Problem
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Record


def read_folder(source: Source, metadata: Metadata) -> Iterator[Record]:
    """A folder of images and one of label images with the same stems."""
    labels = folder_of(source.annotations, "folder of label images")
    pairs = pairs_by_stem(labels=labels, images=image_folder(source.images), problem=source.problem)
    sizes = image_sizes([image for _, image in pairs.values()], source.problem)
    for (stem, (label, image)), size in zip(pairs.items(), sizes, strict=True):
        if size is not None:
            yield Record(stem, size, (Frame(image, semantic=label),))


def read_list(source: Source, metadata: Metadata) -> Iterator[Record]:
    """A text file of `IMAGE LABELS` lines; labels lie in the folder that `semantic` names."""
    path, labels = source.annotations, source.more.get("semantic")
    if labels is None:
        raise DataError(f"{path}: the catalogue entry needs `semantic: FOLDER`")
    pairs, folder = list(_pairs(source)), image_folder(source.images)
    sizes = image_sizes([folder / image for image, _ in pairs], source.problem)
    for (image, label), size in zip(pairs, sizes, strict=True):
        if size is not None:
            frame = Frame(folder / image, semantic=labels / label)
            yield Record(Path(image).with_suffix("").as_posix(), size, (frame,))


def _pairs(source: Source) -> Iterator[tuple[str, str]]:
    path = source.annotations
    lines = read_text(path, "list of images").splitlines()
    for number, line in enumerate(lines, 1):
        image, _, label = line.rpartition(" ")
        if image and label:
            yield image, label
        elif line.strip():
            message = f"{path}: line {number}, {line!r:.80}, is not `IMAGE LABELS`, with one space"
            source.problem(Problem(message=message, path=path, kind="line of a list"))


def classes_beside(source: Source) -> ClassList:
    """Of a class file in the folder of label images or up to two above it."""
    folder = source.annotations
    tried = class_files(folder)
    for file in (file for file in tried if file.exists()):
        content = _label_map(file) if file.suffix == ".txt" else read_yaml(file, "class list")
        return class_list(content, str(file))
    raise DataError(
        f"{folder}: label images do not say what the classes are called; put a classes.json"
        f' ({{"names": [...], "ignore_label": 255}}) beside {folder}, or write a catalogue entry;'
        f" looked for {', '.join(map(str, tried))}"
    )


def _label_map(file: Path) -> dict[str, list[Any]]:
    """CVAT's `label:red,green,blue:parts:actions` lines."""
    names, colors = [], []
    for number, line in enumerate(read_text(file, "class list").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            colors.append([int(value) for value in rest.split(":")[0].split(",")])
        except ValueError:
            raise DataError(
                f"{file}: line {number}, {line!r:.80}, is not `label:red,green,blue:parts:actions`"
            ) from None
        names.append(name)
    return {"names": names, "colors": colors}


def images_beside(folder: Path) -> Path:
    """The folder that has the photograph of the first label image."""
    stem = next(iter(sorted(images_by_stem(folder))), "")
    names = [stem + suffix for suffix in (*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES))]
    places = (
        f"../images/{folder.name}",
        f"../../images/{folder.name}",
        "../images",
        "../../images",
        "../JPEGImages",
    )
    return first_with(names, [folder / place for place in places], folder)


def _no_path(path: Path) -> Path:
    raise DataError(
        f"{path}: a list of images does not say where they lie; write a catalogue entry with"
        " `images`, `annotations` and `semantic`"
    )


LABEL_PNG = Format(
    name="label_png",
    read=read_folder,
    recognises=Path.is_dir,
    images_beside=images_beside,
    classes=classes_beside,
    evaluators=("semantic",),
    things=False,
    write=write_numbers,
)
LABEL_LIST = Format(
    name="label_list",
    read=read_list,
    recognises=lambda path: False,  # a path does not say where the labels are
    images_beside=_no_path,
    evaluators=("semantic",),
    more=("semantic",),
    things=False,
)
