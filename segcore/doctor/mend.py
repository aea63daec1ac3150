"""A COCO file written anew, with what can be mended mended; the file itself is never touched."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from segcore.data.images import image_size as size_of_file
from segcore.data.images import in_threads
from segcore.data.parsing.json_stream import read_object
from segcore.doctor.mend_annotation import mended
from segcore.errors import ConfigError, DataError
from segcore.structures import Size
from segcore.whole_file import whole_file

# what has been done, as people are told
NO_ENTRY = "entries of images without an id or a file name dropped"
TWICE_LISTED = "images listed twice dropped"
COPIES = "images that are there twice dropped, with their annotations"
NO_FILE = "images whose file is missing or broken dropped"
SIZES = "sizes of images filled in from their files"
TYPES = 'ids of images in "image_id" given the type that "images" has'
NO_IMAGE = "annotations of images that are not there dropped"

ImageId = int | str


@dataclass(slots=True)
class _Content:
    """What is remembered of a file that is too large to be held.

    Args:
        members: all but the two lists, in whose places their lengths stand.
        images: entries, as they are.
        annotated: how many annotations each image has.
        crowds: how many annotations of each category are crowds, and how many there are.
    """

    members: dict[str, Any] = field(default_factory=dict[str, Any])
    images: list[Any] = field(default_factory=list[Any])
    annotated: Counter[Any] = field(default_factory=Counter[Any])
    crowds: Counter[Any] = field(default_factory=Counter[Any])
    categories: Counter[Any] = field(default_factory=Counter[Any])

    def count(self, entry: Any) -> None:
        """One annotation."""
        if not isinstance(entry, dict):
            return
        image, category = entry.get("image_id"), entry.get("category_id")
        if isinstance(image, int | str):
            self.annotated[image] += 1
        if isinstance(category, int | str):
            self.categories[category] += 1
            self.crowds[category] += bool(entry.get("iscrowd"))


def mend(
    path: Path,
    out: Path,
    *,
    file_of: Callable[[str], Path],
    copies: Mapping[Path, Path] | None = None,
    broken: Set[Path] = frozenset(),
) -> Counter[str]:
    """Write OUT; returns what has been done, and how often.

    Args:
        path: a COCO file of instances.
        file_of: from an image's `file_name` to where it lies.
        copies: files whose pixels are those of another file: that one.
        broken: files that cannot be read to their end.

    Raises ConfigError where OUT is the file itself.
    """
    if out.exists() and out.samefile(path):
        raise ConfigError(f"{out} is the file that is mended; give --fix another name")
    content, done = _Content(), Counter[str]()
    add = content.images.append
    content.members = read_object(path, {"images": add, "annotations": content.count})
    files = _files(content.images, file_of, done)
    found = _found(files, broken, done)
    kept = _once(found, files, copies or {}, content.annotated, done)
    images = _sized(content.images, {number: found[number] for number in kept}, done)
    crowded = {k for k, n in content.categories.items() if content.crowds[k] == n}
    sizes = {n: (int(entry["height"]), int(entry["width"])) for n, entry in images.items()}

    def mended_annotation(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        image = _known(entry.get("image_id"), sizes)
        if image is None:
            done[NO_IMAGE] += 1
            return None
        if image != entry["image_id"]:
            done[TYPES] += 1
            entry = entry | {"image_id": image}
        all_crowd = entry.get("category_id") in crowded
        return mended(entry, sizes[image], all_crowd=all_crowd, done=done)

    with whole_file(out, "w") as stream:
        _write(stream, path, content.members, images.values(), mended_annotation)
    return done


def _known(image: Any, sizes: Mapping[ImageId, Size]) -> ImageId | None:
    """The id of a listed image, of whichever type; None where there is none."""
    if not isinstance(image, int | str):
        return None
    if image in sizes:
        return image
    other = str(image) if isinstance(image, int) else int(image) if image.isdecimal() else None
    return other if other in sizes else None


def _files(
    entries: Sequence[Any], file_of: Callable[[str], Path], done: Counter[str]
) -> dict[ImageId, Path]:
    """Where the listed images lie, by id, each once."""
    files: dict[ImageId, Path] = {}
    seen: set[ImageId] = set()
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int | str) or not isinstance(entry.get("file_name"), str):
            done[NO_ENTRY] += 1
        elif number in seen:
            done[TWICE_LISTED] += 1
        else:
            seen.add(number)
            try:
                files[number] = file_of(entry["file_name"])
            except DataError:
                done[NO_FILE] += 1
    return files


def _found(
    files: Mapping[ImageId, Path], broken: Set[Path], done: Counter[str]
) -> dict[ImageId, Size]:
    """Sizes of the images that can be read."""
    sizes = in_threads(size_of_file, list(files.values()), lambda problem: None)
    found = dict(zip(files, sizes, strict=True))
    sound = {n: size for n, size in found.items() if size is not None and files[n] not in broken}
    done[NO_FILE] += len(files) - len(sound)
    return sound


def _sized(
    entries: Sequence[Any], sizes: Mapping[ImageId, Size], done: Counter[str]
) -> dict[ImageId, dict[str, Any]]:
    """The first entry of each image in `sizes`, with a height and a width in it."""
    images: dict[ImageId, dict[str, Any]] = {}
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int | str) or number in images or number not in sizes:
            continue
        if not isinstance(entry.get("file_name"), str):
            continue
        if not all(_is_edge(entry.get(key)) for key in ("height", "width")):
            height, width = sizes[number]
            entry = entry | {"height": height, "width": width}
            done[SIZES] += 1
        images[number] = entry
    return images


def _once(
    numbers: Iterable[ImageId],
    files: Mapping[ImageId, Path],
    copies: Mapping[Path, Path],
    annotated: Counter[Any],
    done: Counter[str],
) -> list[ImageId]:
    """Of images with the same pixels the one with the most annotations, in the file's order."""
    alike: dict[Path, list[ImageId]] = defaultdict(list)
    for number in numbers:
        alike[copies.get(files[number], files[number])].append(number)
    kept = {max(group, key=lambda number: annotated[number]) for group in alike.values()}
    done[COPIES] += sum(map(len, alike.values())) - len(kept)
    return [number for number in numbers if number in kept]


def _is_edge(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 1


def _write(
    stream: IO[str],
    path: Path,
    members: Mapping[str, Any],
    images: Iterable[Any],
    mended_annotation: Callable[[Any], Any],
) -> None:
    """Members in their order, annotations one by one as the file is read once more."""
    stream.write("{")
    for i, (key, value) in enumerate(members.items()):
        stream.write((",\n" if i else "") + json.dumps(key) + ": ")
        if key == "images":
            stream.write("[" + ",\n".join(map(json.dumps, images)) + "]")
        elif key == "annotations":
            stream.write("[")
            read_object(path, {"annotations": _Writer(stream, mended_annotation)})
            stream.write("]")
        else:
            stream.write(json.dumps(value))
    stream.write("}\n")


@dataclass(slots=True)
class _Writer:
    """Elements of a list, one by one."""

    stream: IO[str]
    change: Callable[[Any], Any]  # None: leave it out
    sign: str = ""

    def __call__(self, entry: Any) -> None:
        if (new := self.change(entry)) is not None:
            self.stream.write(self.sign + json.dumps(new))
            self.sign = ",\n"
