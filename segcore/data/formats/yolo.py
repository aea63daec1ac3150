"""YOLO's segmentation labels: data.yaml, and a text file of normalised polygons for each image.

`data.yaml` has `names`, and by split (`train`, `val`, `test`) a folder of images, several, or a
text file that lists images. As a path, the file means its split `train` and `data.yaml@val` another
one; or the path is the folder of one split's label files.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from segcore.data.class_list import ClassList
from segcore.data.folders import files_below, image_folder, images_by_stem
from segcore.data.formats.format import Format, Goal, Source
from segcore.data.formats.yolo_head import YoloHead, head_file, head_of, is_head
from segcore.data.images import image_sizes
from segcore.data.outlines import single_ring
from segcore.data.parsing.text_file import read_text
from segcore.data.problem import NO_MASK, Problem
from segcore.data.still_segments import without_crowds
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Polygons, Record, Segment, Size
from segcore.whole_file import whole_file

logger = logging.getLogger(__name__)

DECIMALS = 4  # of a pixel, so that written and read again a corner is the same number
OUTSIDE = 0.01  # of the image's width or height that a corner may be off


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Images without a label file are empty ones, as the format has it; boxes are left out."""
    pairs = _pairs(source)
    sizes = image_sizes([image for _, image, _ in pairs], source.problem)
    for (name, image, labels), size in zip(pairs, sizes, strict=True):
        if size is not None:
            segments = tuple(_segments(labels, size, source, metadata))
            yield Record(name, size, (Frame(image, segments),))


def _pairs(source: Source) -> list[tuple[str, Path, Path]]:
    """Of each image: its name, its file, and the file of its labels, which need not be there."""
    folder, head = source.annotations, head_of(source.annotations)
    images = _images(source, head)
    own = folder if folder.is_dir() and head.file.parent != folder else None
    pairs, times = [], Counter(name for name, _ in images)
    for name, image in images:
        if times[name] > 1:  # in folders of their own, or with other suffixes
            name = image.as_posix()
        labels = _beside(image) if own is None else own / name
        pairs.append((name, image, labels.with_name(f"{image.stem}.txt")))
    there = [labels for _, _, labels in pairs if labels.is_file()]
    if not there:
        tried = pairs[0][2] if pairs else source.images
        raise DataError(
            f"{folder}: none of its {len(pairs)} images has a label file (such as {tried});"
            " expected a folder `labels` beside the folder `images`, with the same names"
        )
    known = set(there)
    for place in sorted({labels.parent for labels in there}):
        for file in sorted(place.glob("*.txt")):
            if file not in known and file.name != "classes.txt":
                message = f"{file}: there is no image of this name in {source.images}"
                source.problem(Problem(message=message, path=file, kind="label without an image"))
    return pairs


def _images(source: Source, head: YoloHead) -> list[tuple[str, Path]]:
    """Images by their names without the suffix, in order."""
    split = str(source.images)
    if split not in head.splits:
        return _in_folder(image_folder(source.images))
    images: list[tuple[str, Path]] = []
    for place in head.places(split):
        if place.suffix == ".txt":
            files = [head.listed(line, place) for line in head.lines(place)]
            images += [(file.with_suffix("").name, file) for file in files]
        else:
            images += _in_folder(image_folder(place))
    return images


def _in_folder(folder: Path) -> list[tuple[str, Path]]:
    return [
        (stem, file) for stem, files in sorted(images_by_stem(folder).items()) for file in files
    ]


def _beside(image: Path) -> Path:
    """Where the last folder `images` of its path is called `labels`; or in the image's folder."""
    parts = list(image.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def _segments(file: Path, size: Size, source: Source, metadata: Metadata) -> Iterator[Segment]:
    """Of one label file."""
    if not file.exists():
        return
    try:
        lines = read_text(file, "label file").splitlines()
    except DataError as fault:
        source.problem(Problem(message=str(fault), path=file, kind="label file", image=file.stem))
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            if len(words) == 5:
                source.problem(_box(words, number, file, metadata))
            elif words:
                yield _segment(words, f"{file}: line {number}", size, metadata)
        except DataError as fault:
            problem = Problem(message=str(fault), path=file, kind="line of labels", image=file.stem)
            source.problem(problem)


def _box(words: list[str], number: int, file: Path, metadata: Metadata) -> Problem:
    """The loss of an object that has no mask."""
    known = words[0].isdecimal() and int(words[0]) < len(metadata.classes)
    return Problem(
        message=f"{file}: line {number} has no mask",
        path=file,
        kind=NO_MASK,
        image=file.stem,
        effect="loss",
        category=int(words[0]) if known else None,
    )


def _segment(words: list[str], where: str, size: Size, metadata: Metadata) -> Segment:
    H, W = size
    try:
        category, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise DataError(f"{where} has {' '.join(words)!r:.60}; expected numbers") from None
    K = len(metadata.classes)
    if not category.is_integer() or not 0 <= category < K:
        raise DataError(f"{where} has class {words[0]:.20}; expected 0..{K - 1}, one of `names`")
    if len(values) < 6 or len(values) % 2:
        raise DataError(
            f"{where} has {len(values)} numbers behind its class; expected x y of three or more"
            " corners, or x y width height of a box"
        )
    for value in values:
        if not -OUTSIDE <= value <= 1 + OUTSIDE:  # nor is NaN
            pixels = f"; are these pixels? divide x by its width {W}, y by its height {H}"
            raise DataError(
                f"{where} has a coordinate {value:g}; expected shares of the image, 0 to 1"
                + (pixels if 1 < max(values) <= max(size) else "")
            )
    pixels = [round(v * (H if i % 2 else W), DECIMALS) for i, v in enumerate(values)]
    return Segment(int(category), Polygons((tuple(pixels),)))


def write(metadata: Metadata, records: Iterable[Record], goal: Goal) -> Path:
    """One ring an object: what has several parts or holes is joined by bridges of no width."""
    head = _written_head(metadata, goal)
    for record in records:
        lines = []
        for segment in without_crowds(record.frames[0], goal.lost):
            ring = single_ring(segment, record)
            if not ring:
                goal.lost["empty masks"] += 1
                continue
            H, W = record.size
            shares = [value / (H if i % 2 else W) for i, value in enumerate(ring)]
            lines.append(" ".join([str(segment.category), *map(_number, shares)]) + "\n")
        file = goal.folder / "labels" / goal.split / f"{goal.stem(record)}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines), encoding="utf-8")
    if not all(metadata.is_thing):
        goal.lost["stuff classes, which are read as things"] += metadata.is_thing.count(False)
    path = goal.folder / "data.yaml"
    with whole_file(path, "w") as stream:
        yaml.safe_dump(head, stream, sort_keys=False, allow_unicode=True)
    return path if goal.split == "train" else Path(f"{path}@{goal.split}")


def _written_head(metadata: Metadata, goal: Goal) -> dict[str, Any]:
    """What is there of other splits, and this one."""
    path, splits = goal.folder / "data.yaml", dict[str, Any]()
    if path.is_file():
        head = head_of(path)
        if head.names != metadata.classes:
            raise DataError(f"{path}: has other classes; write {goal.split} into another folder")
        splits = {
            key: places if len(places) > 1 else places[0] for key, places in head.splits.items()
        }
    splits[goal.split] = f"images/{goal.split}"
    return {**splits, "names": dict(enumerate(metadata.classes))}


def _number(share: float) -> str:
    return f"{share:.10f}".rstrip("0").rstrip(".") or "0"


def _recognises(path: Path) -> bool:
    if not path.is_dir():
        return is_head(path)
    file = head_file(path)
    if file is None or not is_head(file):
        return False
    return file.parent == path or any(f.suffix == ".txt" for f in files_below(path))


def _images_beside(path: Path) -> Path:
    """The split `train` of a data.yaml; of a folder of labels, the folder of images beside it."""
    head = head_of(path)
    if path.is_dir() and head.file.parent != path:
        return _beside_labels(path)
    if not head.splits:
        raise DataError(f"{head.file}: names no images; expected `train` and `val`")
    split = "train" if "train" in head.splits else next(iter(head.splits))
    logger.info("%s: the split %s; another one: %s@SPLIT", head.file, split, path)
    return Path(split)


def _beside_labels(folder: Path) -> Path:
    parts = list(folder.absolute().parts)
    for i in reversed(range(len(parts))):
        if parts[i] == "labels":
            parts[i] = "images"
            return Path(*parts)
    return folder


def _classes(source: Source) -> ClassList:
    return ClassList(head_of(source.annotations).names)


FORMAT = Format(
    name="yolo",
    read=read,
    recognises=_recognises,
    images_beside=_images_beside,
    classes=_classes,
    evaluators=("instance", "boundary"),
    write=write,
)
