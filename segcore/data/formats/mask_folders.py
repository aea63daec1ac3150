"""Folders of masks: one PNG an object, white on black.

Either `<image>/masks/*.png` beside `<image>/images/<image>.png`, as the Data Science Bowl of 2018
has them; or a folder `masks` whose folders have the images' names, with the masks in them, or in
folders by class. Classes are those of a classes.json, else the folders' names, else one: "object".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from segcore import masks
from segcore.data.class_list import ClassList
from segcore.data.folders import files_below, folder_of, image_folder, images_by_stem
from segcore.data.formats.class_file import class_file_in, write_class_file
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.images import IMAGE_SUFFIXES, image_sizes, in_threads
from segcore.data.problem import Problem
from segcore.errors import DataError
from segcore.label_files import read_label_file
from segcore.segment_rle import to_rle
from segcore.structures import Frame, Metadata, Record, Rle, Segment, Size

CROWD = "_crowd"  # at the end of a mask's name
ONE = "object"


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images with a folder of masks, which may be empty; other images are left alone."""
    found = dict(_images(source))
    sizes = image_sizes([image for image, _ in found.values()], source.problem)
    classes = _class_folders(metadata, source.annotations)
    for (name, (image, folder)), size in zip(found.items(), sizes, strict=True):
        if size is None:
            continue
        files = _masks(folder)
        rles = in_threads(lambda file, size=size: _mask(file, size), files, source.problem)
        segments = []
        for file, rle in zip(files, rles, strict=True):
            if rle is None:
                continue
            try:
                category = _category(file.relative_to(folder), classes, file)
            except DataError as fault:
                problem = Problem(message=str(fault), path=file, kind="category", image=name)
                source.problem(problem)
                continue
            segments.append(Segment(category, rle, file.stem.endswith(CROWD)))
        yield Record(name, size, (Frame(image, tuple(segments)),))


def _images(source: Source) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """By name: an image and the folder of its masks."""
    root = folder_of(source.annotations, "folder of masks")
    if own := _own_folders(root):
        for place in own:
            images = sorted(
                file for files in images_by_stem(place / "images").values() for file in files
            )
            if len(images) == 1:
                yield place.name, (images[0], place / "masks")
                continue
            message = f"{place / 'images'}: has {len(images)} images; expected one"
            source.problem(Problem(message=message, path=place, kind="image", image=place.name))
        return
    images = images_by_stem(image_folder(source.images))
    used = list[Path]()
    for stem, files in sorted(images.items()):
        if (root / stem).is_dir():
            used.append(root / stem)
            yield stem, (sorted(files)[0], root / stem)
    if not used:
        raise DataError(
            f"{root}: no folder in it has the name of an image in {source.images}; expected"
            f" {root}/IMAGE/*.png, one mask an object"
        )
    known = set(used)
    lost = {f.parent for f in _masks(root) if not known & {f.parent, *f.parent.parents}}
    for folder in sorted(lost):
        message = f"{folder}: has masks, and there is no image of this name in {source.images}"
        source.problem(Problem(message=message, path=folder, kind="masks without an image"))


def _own_folders(root: Path) -> list[Path]:
    """Those of images that have folders `images` and `masks` of their own."""
    return [p for p in sorted(root.iterdir()) if (p / "images").is_dir() and (p / "masks").is_dir()]


def _masks(folder: Path) -> list[Path]:
    """By their names, whatever folders they lie in."""
    files = [file for file in files_below(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(files, key=lambda file: (file.name, file))


def _mask(file: Path, size: Size) -> Rle:
    pixels = read_label_file(file).pixels
    if pixels.ndim == 3:
        pixels = pixels[..., : 1 if pixels.shape[2] == 2 else 3].max(-1)
    if pixels.shape != size:
        raise DataError(f"{file}: is {pixels.shape} (height, width); its image is {size}")
    return masks.encode((pixels > 0)[np.newaxis])[0]


def _category(name: Path, classes: dict[str, int], file: Path) -> int:
    """By the folder, or the beginning of the file's name, or because there is one class."""
    if name.parent.name in classes:
        return classes[name.parent.name]
    for start in (name.stem.removesuffix(CROWD), name.stem.rpartition("_")[0]):
        if start in classes:
            return classes[start]
    if len(classes) == 1:
        return 0
    raise DataError(
        f"{file}: of which class is this mask? expected it in a folder of that name, of"
        f" {', '.join(list(classes)[:8])}"
    )


def _class_folders(metadata: Metadata, where: Path) -> dict[str, int]:
    """Classes by the names of their folders."""
    folders = {_folder_name(name): k for k, name in enumerate(metadata.classes)}
    if len(folders) != len(metadata.classes):
        raise DataError(f"{where}: two classes would have one folder of masks: {sorted(folders)}")
    return folders


def _folder_name(name: str) -> str:
    plain = "".join("_" if sign in '/\\:*?"<>|\0' else sign for sign in name).strip(". ")
    return plain or "_"


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """`masks/<split>/<image>/<class>/<number>.png`."""
    root = goal.folder / "masks" / goal.split
    root.mkdir(parents=True, exist_ok=True)
    write_class_file(metadata, goal.folder, things=True)
    names = list(_class_folders(metadata, root))
    for record in records:
        folder = root / goal.stem(record)
        folder.mkdir(parents=True, exist_ok=True)
        for number, segment in enumerate(record.frames[0].segments, 1):
            mask = masks.decode(to_rle(segment, record.frames[0], record.size))
            place = folder / names[segment.category]
            place.mkdir(exist_ok=True)
            file = place / f"{number:04d}{CROWD if segment.crowd else ''}.png"
            Image.fromarray(mask.astype(np.uint8) * 255).save(file)
    return root


def _classes(source: Source) -> ClassList:
    root = source.annotations
    listed = class_file_in([root, *root.absolute().parents[:2]])
    if listed is not None:
        return listed
    own = _own_folders(root)
    folders = [place / "masks" for place in own] or [root / stem for stem in _stems(source)]
    found = {file.parent for folder in folders for file in _masks(folder)} - set(folders)
    names = sorted({place.name for place in found})
    return ClassList(tuple(names) or (ONE,))


def _stems(source: Source) -> list[str]:
    images = images_by_stem(image_folder(source.images))
    return [stem for stem in images if (source.annotations / stem).is_dir()]


def _recognises(path: Path) -> bool:
    """Folders of the Data Science Bowl, or below a folder called `masks`, and no mask beside."""
    if not path.is_dir():
        return False
    try:
        entries = sorted(path.iterdir())
    except OSError:
        return False
    if any((entry / "images").is_dir() and (entry / "masks").is_dir() for entry in entries):
        return True
    beside = any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in entries)
    named = "masks" in (path.name.lower(), path.parent.name.lower())
    return named and not beside and any(entry.is_dir() for entry in entries)


def _images_beside(path: Path) -> Path:
    if _own_folders(path):
        return path
    places = [f"../images/{path.name}", f"../../images/{path.name}", "../images", "../../images"]
    places += ["../JPEGImages", "../../JPEGImages", "../data", "../../data"]
    for folder in (path / place for place in places):
        if folder.is_dir():
            return folder.resolve()
    raise DataError(
        f"{path}: there is no folder of images; tried {', '.join(places)}; name it: {path}@IMAGES"
    )


FORMAT = Format(
    name="mask_folders",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    evaluators=("instance", "boundary"),
    write=write,
)
