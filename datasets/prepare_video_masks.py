"""Folders of frames and of their id images as YouTube-VIS JSON: DAVIS, YouTube-VOS, or your own.

FRAMES/VIDEO/*.jpg and MASKS/VIDEO/*.png of the same names -> one JSON. A pixel of a mask is the
number of its object, 0 for none: grey values, palette entries, or R + 256 G + 65536 B. An object
has the same number in all frames. Frames without a mask are left out: nothing is known of them.

DAVIS 2017, whose objects have no classes:

    python prepare_video_masks.py --frames DAVIS/JPEGImages/480p --masks DAVIS/Annotations/480p
        --videos DAVIS/ImageSets/2017/train.txt --output DAVIS/train.json
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from preparation import box, each, write_json
from pycocotools import mask as coco_mask

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
CLASS = "object"  # where nobody says more
Classes = dict[str, Any]  # by video: a class, or classes by object
Job = tuple[str, list[tuple[Path, Path]], list[int]]  # video, frames with their masks, void ids


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, required=True, help="folder of folders of frames")
    parser.add_argument("--masks", type=Path, required=True, help="folder of folders of masks")
    parser.add_argument("--output", type=Path, required=True, help="the JSON")
    parser.add_argument("--videos", type=Path, help="a file that lists videos; default: all")
    parser.add_argument(
        "--classes",
        type=Path,
        help="YAML or JSON: {VIDEO: CLASS} or {VIDEO: {NUMBER: CLASS}}; default: all are `object`",
    )
    parser.add_argument(
        "--void", type=int, nargs="*", default=[], help="numbers that are no object, such as 255"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; default: all cores"
    )
    return parser.parse_args()


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """The videos, those without masks left out and said."""
    if args.videos:
        lines = args.videos.read_text(encoding="utf-8").splitlines()
        videos = [line.strip() for line in lines if line.strip()]
    else:
        videos = [p.relative_to(args.masks).as_posix() for p in sorted(args.masks.glob("*/"))]
    without = 0
    for video in videos:
        frames, masks = (by_stem(folder / video) for folder in (args.frames, args.masks))
        if lost := sorted(masks.keys() - frames.keys()):
            raise SystemExit(
                f"{masks[lost[0]]}: there is no frame {lost[0]} in {args.frames}/{video}"
            )
        without += len(frames) - len(masks)
        if masks:
            yield video, [(frames[stem], masks[stem]) for stem in sorted(masks)], args.void
    if without:
        print(f"{without} frames have no mask and are left out")


def by_stem(folder: Path) -> dict[str, Path]:
    """Images of a folder; ends the program where there is none of that name."""
    if not folder.is_dir():
        raise SystemExit(f"{folder}: not found; a video is a folder in --frames and in --masks")
    return {f.stem: f for f in sorted(folder.iterdir()) if f.suffix.lower() in SUFFIXES}


def ids_of(path: Path) -> np.ndarray:
    """(H, W) numbers of the objects of a mask."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image).astype(np.int64)
    except (OSError, SyntaxError, ValueError) as error:
        raise SystemExit(f"{path}: cannot be read as an image: {error}") from None
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] < 3:
        return pixels[..., 0]
    return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]


def convert(job: Job) -> tuple[dict[str, Any], dict[int, dict[str, list[Any]]]]:
    """A video, and by number of the object what is written of it for each frame."""
    video, pairs, void = job
    with Image.open(pairs[0][0]) as first:
        width, height = first.size
    names = [f"{video}/{frame.name}" for frame, _ in pairs]
    entry = {"width": width, "height": height, "length": len(names), "file_names": names}
    objects: dict[int, dict[str, list[Any]]] = {}
    for t, (frame, file) in enumerate(pairs):
        ids = ids_of(file)
        with Image.open(frame) as image:
            sizes = {image.size, ids.shape[::-1]}
        if sizes != {(width, height)}:
            raise SystemExit(
                f"{frame}: it and its mask are {sorted(sizes)} (width, height), the first frame"
                f" {width} x {height}; expected one size a video"
            )
        for number in np.unique(ids).tolist():
            if number and number not in void:
                keys = ("segmentations", "bboxes", "areas")
                empty: dict[str, list[Any]] = {key: [None] * len(pairs) for key in keys}
                written = objects.setdefault(number, empty)
                mask = ids == number
                rle: Any = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
                text = {"size": rle["size"], "counts": rle["counts"].decode()}
                values = (text, box(mask), int(mask.sum()))
                for key, value in zip(keys, values, strict=True):
                    written[key][t] = value
    return entry, objects


def class_of(video: str, number: int, classes: Classes | None, path: Path | None) -> str:
    """What an object is; ends the program where the file of classes does not say it."""
    if classes is None:
        return CLASS
    known = classes.get(video)
    known = known.get(number, known.get(str(number))) if isinstance(known, dict) else known
    if known is None:
        raise SystemExit(f"{path}: does not say what object {number} of video {video} is")
    return str(known)


def category_ids(classes: Classes | None) -> dict[str, int]:
    """By name, in the order of the file, so that all JSONs made with it have the same."""
    ids: dict[str, int] = {}
    for known in [CLASS] if classes is None else classes.values():
        for name in known.values() if isinstance(known, dict) else [known]:
            ids.setdefault(str(name), len(ids) + 1)
    return ids


def main() -> None:
    """One JSON of all videos."""
    args = arguments()
    classes = None
    if args.classes:
        classes = yaml.safe_load(args.classes.read_text(encoding="utf-8"))
    todo, ids = list(jobs(args)), category_ids(classes)
    if not todo:
        raise SystemExit(f"{args.masks}: no video with a mask is there")
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    made = each(convert, todo, args.workers, "videos")
    for (video, *_), (entry, objects) in zip(todo, made, strict=True):
        videos.append({"id": len(videos) + 1} | entry)
        for number in sorted(objects):
            about = {"id": len(annotations) + 1, "video_id": len(videos), "iscrowd": 0}
            about["category_id"] = ids[class_of(video, number, classes, args.classes)]
            annotations.append(about | objects[number])
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"videos": videos, "annotations": annotations, "categories": categories}
    write_json(args.output, content)
    print(f"{args.output}: {len(videos)} videos, {len(annotations)} objects")


if __name__ == "__main__":
    main()
