"""Small drawn videos in YouTube-VIS's form, for tests that run the real thing."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

CATEGORIES = [{"id": 3, "name": "box"}, {"id": 7, "name": "disc"}]
CATALOG = """reader: youtube_vis
evaluators: [tracks, track_boundary]
names:
  tiny_video: {images: frames, annotations: videos.json}
"""
HEIGHT, WIDTH = 64, 80


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def annotation(number, video, category, masks, **more):
    """A track, of masks (H, W) or None a frame."""
    areas = [None if mask is None else int(mask.sum()) for mask in masks]
    shapes = [None if mask is None else rle_of(mask) for mask in masks]
    entry = {"id": number, "video_id": video, "category_id": category, "iscrowd": 0}
    return entry | {"segmentations": shapes, "areas": areas, "bboxes": areas} | more


def scene(rng, frames):
    """Pictures, and the masks of a box and of a disc that move; the disc comes late."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    (by, bx), (dy, dx) = rng.integers(14, 50, (2, 2))
    pictures, boxes, discs = [], [], []
    for t in range(frames):
        picture = rng.integers(90, 110, (HEIGHT, WIDTH, 3))
        box = (abs(y - by) < 10) & (abs(x - bx - 2 * t) < 10)
        disc = ((y - dy) ** 2 + (x - dx + t) ** 2 < 121) & (t > 0) & ~box
        picture[box], picture[disc] = (220, 40, 40), (40, 40, 220)
        pictures.append(picture.astype(np.uint8))
        boxes.append(box)
        discs.append(disc if disc.any() else None)
    return pictures, boxes, discs


def write_videos(folder: Path, videos, annotations, categories=CATEGORIES, name="videos.json"):
    """Videos are {id: list of pictures}; returns the annotation file."""
    entries = []
    for number, pictures in videos.items():
        names = [f"{number}/frame {t}.png" for t in range(len(pictures))]
        for file, picture in zip(names, pictures, strict=True):
            (folder / "frames" / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / "frames" / file)
        height, width = pictures[0].shape[:2]
        entry = {"id": number, "height": height, "width": width, "length": len(names)}
        entries.append(entry | {"file_names": names})
    content = {"videos": entries, "annotations": annotations, "categories": categories}
    (folder / name).write_text(json.dumps(content))
    return folder / name


def make_videos(folder: Path, lengths=(4, 5, 3, 1)) -> Path:
    """Write the data set; returns its catalogue file."""
    videos, annotations = {}, []
    for number, frames in enumerate(lengths, 1):
        videos[number], boxes, discs = scene(np.random.default_rng(number), frames)
        for category, masks in ((3, boxes), (7, discs)):
            if any(mask is not None for mask in masks):
                annotations.append(annotation(len(annotations) + 1, number, category, masks))
    write_videos(folder, videos, annotations)
    (folder / "tiny_video.yaml").write_text(CATALOG)
    return folder / "tiny_video.yaml"
