"""YouTube-VIS, 2019 and 2021, and OVIS, which shares its form: COCO's layout over time.

An annotation is a track: one segmentation a frame, null where the object is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from segcore.data.folders import first_with, image_folder
from segcore.data.formats.coco_file import CocoFile, id_in, named
from segcore.data.formats.coco_head import classes_of_file, head_of, image_folders, is_video
from segcore.data.formats.coco_instances import Annotation, Segments
from segcore.data.formats.format import Format, Source
from segcore.data.parsing.values import flag, listing, real, text, typed, whole
from segcore.errors import DataError
from segcore.structures import Frame, Metadata, Record, Segment

FRAMES = "JPEGImages"  # where the published data sets have them


def read(source: Source, metadata: Metadata) -> Iterator[Record]:
    """Videos without objects stay; a segment's track is its annotation's place in the video."""
    path, folder = source.annotations, image_folder(source.images)
    content = CocoFile(
        path,
        _values(path),
        what="annotation",
        problem=source.problem,
        image_values=_video_values(path),
        word="video",
    )
    segments = Segments(content, metadata)
    for video, (_, size) in content.images.items():
        names = content.more[video]
        shown: list[list[Segment]] = [[] for _ in names]
        for track, annotation in enumerate(content.annotations(video)):
            number, category, shapes, crowd, areas = annotation
            label = segments.label(category, video, number)
            if label is None or not _fits(content, video, annotation, len(names)):
                continue
            for t, (value, area) in enumerate(zip(shapes, areas, strict=True)):
                if not value:  # null, and [] of some tools
                    continue
                told = Annotation(label, video, number, crowd, area)
                shape = segments.shape(value, size, told)
                if shape is not None:
                    shown[t].append(Segment(label, shape, crowd, area, track))
        frames = (Frame(folder / n, tuple(s)) for n, s in zip(names, shown, strict=True))
        yield from segments.checked([Record(video, size, tuple(frames))])


def _fits(content: CocoFile, video: int | str, annotation: tuple[Any, ...], frames: int) -> bool:
    """Whether a track has as many segmentations as the video has frames; else it is reported."""
    number, _, shapes, _, areas = annotation
    if len(shapes) == len(areas) == frames:
        return True
    short = "segmentations" if len(shapes) != frames else "areas"
    message = (
        f"{content.path}: {named('annotation', number)} has"
        f" {len(shapes if len(shapes) != frames else areas)} {short}, its video {video} has"
        f" {frames} frames; expected one a frame, null where the object is absent"
    )
    content.report(message, "track", image=video, annotation=number)
    return False


def _values(path: Path) -> Callable[[Any], tuple[Any, ...]]:
    """Of an annotation: its number, category, shapes by frame, whether it is a crowd, its areas."""

    def values(entry: Any) -> tuple[Any, ...]:
        number = id_in(entry, "id")
        what = named("annotation", number) if isinstance(entry, dict) else "an annotation"
        category = typed(entry, "category_id", whole, what, path)
        shapes = typed(entry, "segmentations", listing, what, path)
        crowd = typed(entry, "iscrowd", flag, what, path, default=False)
        areas = typed(entry, "areas", _areas, what, path, default=[None] * len(shapes))
        return number, category, shapes, crowd, areas

    return values


def _areas(value: Any) -> list[float | None]:
    if not isinstance(value, list):
        raise ValueError("a list of numbers, null where the object is absent")
    return [None if each is None else real(each) for each in value]


def _video_values(path: Path) -> Callable[[Any, str], tuple[str, Any]]:
    """Of a video: its first frame, and the names of all."""

    def values(entry: Any, what: str) -> tuple[str, Any]:
        names = typed(entry, "file_names", _names, what, path)
        length = typed(entry, "length", whole, what, path, default=len(names))
        if length != len(names):
            raise DataError(
                f"{path}: {what} has length {length} and {len(names)} file_names; expected a name"
                " for each frame"
            )
        return names[0], names

    return values


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ValueError("the files of its frames: a list of at least one name")
    try:
        return [text(each) for each in value]
    except ValueError:
        raise ValueError("a file name for each frame") from None


def _images_beside(path: Path) -> Path:
    stem = path.stem.removeprefix("annotations_")  # of OVIS
    likely = (f"{stem}/{FRAMES}", FRAMES, f"../{FRAMES}", "frames", stem, f"../{stem}")
    folders = [*(path.parent / place for place in likely), *image_folders(path)]
    return first_with([head_of(path).image or ""], folders, path)


FORMAT = Format(
    name="youtube_vis",
    read=read,
    recognises=is_video,
    images_beside=_images_beside,
    classes=lambda source: classes_of_file(source.annotations),
    annotated=lambda source: head_of(source.annotations).annotated,
    evaluators=("tracks", "track_boundary"),
    first_id=1,
)
