"""What a COCO JSON says of itself: its kind, its classes, where its images may lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from segcore.data.class_list import ClassList
from segcore.data.folders import first_with
from segcore.data.formats.foreign import refuse_foreign
from segcore.data.image_names import candidates
from segcore.data.parsing.class_list import class_list, is_color
from segcore.data.parsing.json_stream import last_member, read_object
from segcore.data.parsing.values import flag, typed, whole
from segcore.errors import DataError

LISTS = ("images", "videos", "annotations")  # a file has two of them
ABSENT = "neg_category_ids"  # LVIS's, of an image
LARGE = 1 << 20  # bytes; a smaller file is parsed before it has been searched


@dataclass(frozen=True, slots=True)
class Head:
    """What an annotation file says of itself."""

    categories: tuple[dict[str, Any], ...]
    panoptic: bool
    image: str | None  # file name of the first one; of a video's first frame
    annotated: bool = True  # False: a list of images, as COCO's test sets are
    federated: bool = False  # images say which classes they lack, as LVIS's do
    video: bool = False  # it lists videos, as YouTube-VIS's do
    path: str | None = None  # of the first image, as COCO Annotator writes it


class _Enough(Exception):
    """The rest of the file need not be read."""


def head_of(path: Path) -> Head:
    """Categories and kind of a COCO JSON."""
    try:
        state = path.stat()
    except OSError:
        return _read_head(path, 0, 0)  # which says what is missing
    return _read_head(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)  # a big file takes seconds, and is asked for its kind, images and classes
def _read_head(path: Path, _changed: int, size: int) -> Head:
    first: dict[str, dict[str, Any]] = {}
    last = last_member(path, "categories") if size > LARGE else None
    categories: list[Any] = last if isinstance(last, list) else []

    def note(key: str, entry: Any) -> None:
        first.setdefault(key, entry if isinstance(entry, dict) else {})
        if categories and len(first) == 2:  # one array follows another: they are complete
            raise _Enough

    each: dict[str, Callable[[Any], None]] = {key: partial(note, key) for key in LISTS}
    if not categories:
        each["categories"] = categories.append
    annotated = True
    try:
        annotated = read_object(path, each).get("annotations") is not None
    except _Enough:
        pass
    except DataError:
        refuse_foreign(path)
        raise
    if not categories:
        refuse_foreign(path)
        raise DataError(f"{path}: has no categories; list them as `classes` in a catalogue entry")
    for entry in categories:
        if not isinstance(entry, dict) or not {"id", "name"} <= entry.keys():
            raise DataError(f"{path}: a category needs `id` and `name`; one is {entry!r:.80}")
        typed(entry, "id", whole, f"category {entry['name']!r:.40}", path)
        typed(entry, "isthing", flag, f"category {entry['name']!r:.40}", path, default=True)
    panoptic = all("isthing" in entry for entry in categories)  # a guess
    if "annotations" in first:
        panoptic = "segments_info" in first["annotations"]
    image, video = first.get("images", {}), first.get("videos", {})
    name = image_name(image) or _frame_name(video)
    path_ = image.get("path")
    return Head(
        tuple(categories),
        panoptic,
        name,
        annotated,
        federated=ABSENT in image,
        video="videos" in first,
        path=path_ if isinstance(path_, str) and "\0" not in path_ else None,
    )


def image_name(entry: dict[str, Any]) -> str | None:
    """The file of an entry of `images`; LVIS's lie in several folders, which their URL names."""
    url, name = entry.get("coco_url"), entry.get("file_name")
    if isinstance(url, str) and (ABSENT in entry or name is None):
        return "/".join(url.split("/")[-2:])
    return name if isinstance(name, str) else None


def _frame_name(video: dict[str, Any]) -> str | None:
    names = video.get("file_names")
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) else None


def is_panoptic(path: Path) -> bool:
    """Whether this is a COCO JSON whose segments lie in PNGs."""
    if not looks_like_json(path):
        return False
    try:
        return head_of(path).panoptic
    except DataError:
        return False


def is_video(path: Path) -> bool:
    """Whether this is a JSON that lists videos."""
    if not looks_like_json(path):
        return False
    try:
        return head_of(path).video
    except DataError:
        return False


def looks_like_json(path: Path) -> bool:
    """By its name or else by its first sign, so that a damaged file still counts."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".json":
        return True
    with path.open("rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def classes_of_file(path: Path) -> ClassList:
    """Things first, then stuff, each by id: the order of COCO panoptic."""
    ordered = sorted(head_of(path).categories, key=lambda c: (not c.get("isthing", 1), c["id"]))
    silent = [str(c["name"]) for c in ordered if c.get("isthing") is None]
    if silent and (len(silent) < len(ordered) or head_of(path).panoptic):
        raise DataError(
            f"{path}: {len(silent)} of {len(ordered)} categories do not say whether they are things"
            f' ({", ".join(silent[:3])}); write "isthing": 1 (objects that are counted) or 0'
            " (ground, sky) in each, or list them as `classes` in a catalogue entry"
        )
    content: dict[str, Any] = {"names": [c["name"] for c in ordered]}
    content["ids"] = [c["id"] for c in ordered]
    content["num_things"] = sum(bool(c.get("isthing", 1)) for c in ordered)
    if all(is_color(c.get("color")) for c in ordered):
        content["colors"] = [c["color"] for c in ordered]
    return class_list(content, str(path))


def image_folders(path: Path) -> list[Path]:
    """Where the images of a JSON usually lie, the likely places first."""
    stem = path.stem.removeprefix("panoptic_").removeprefix("instances_")
    likely = [stem, f"../{stem}", f"images/{stem}", f"../images/{stem}"]
    usual = ("images", "../images", "JPEGImages", "../JPEGImages", "data", "../data", ".")
    return [path.parent / place for place in (*likely, *usual)]


def images_beside(path: Path) -> Path:
    """The folder that has the first image of the file, or is in the `path` of its entry."""
    head = head_of(path)
    carried = [path.parent / Path(end).parent for end in candidates(head.path or "")]
    return first_with([head.image or ""], [*image_folders(path), *carried], path)
