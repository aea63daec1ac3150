"""Draw the quickstart's data set: shapes (things) cut from photographs on textured ground (stuff).

The photographs are those that scikit-image ships. Training scenes are cut from the left three
fifths of each, validation scenes from the rest, so nothing seen in training is seen again.
Ground truth is exact: COCO panoptic JSON + PNG, id = R + 256 G + 65536 B.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage import data as photographs

SHAPES = ("disc", "square", "triangle", "star", "cross", "ring")
GROUNDS = {"brick": "brick", "grass": "grass", "gravel": "gravel", "stars": "hubble_deep_field"}
SKINS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")
TRAIN_PART = 0.6  # of every photograph's width
MIN_AREA = 60  # pixels of every segment that stay visible
OVERSAMPLE = 4  # outlines are drawn larger and averaged


def catalogue() -> str:
    """The data set's entry, as a user would write it for an own one."""
    return """# a data set of one's own, in the COCO panoptic format
reader: coco_panoptic
evaluators: [panoptic, instance, semantic]
names:
  scenes_train: {images: train, annotations: train.json, panoptic: train_panoptic}
  scenes_val: {images: val, annotations: val.json, panoptic: val_panoptic}
"""


def categories() -> list[dict[str, object]]:
    """COCO panoptic categories, things first."""
    things = [{"id": i, "name": n, "isthing": 1} for i, n in enumerate(SHAPES, 1)]
    stuff = [{"id": i, "name": n, "isthing": 0} for i, n in enumerate(GROUNDS, len(SHAPES) + 1)]
    return things + stuff


def photograph(name: str, train: bool) -> np.ndarray:
    """(H, W, 3) uint8: the part of a photograph that belongs to the split."""
    image = getattr(photographs, name)()
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    cut = int(image.shape[1] * TRAIN_PART)
    return np.ascontiguousarray(image[:, :cut, :3] if train else image[:, cut:, :3])


def texture(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of the photograph, turned and tinted: (size, size, 3) float 0..255."""
    side = int(rng.integers(min(image.shape[:2]) // 3, min(image.shape[:2]) + 1))
    y, x = (int(rng.integers(0, edge - side + 1)) for edge in image.shape[:2])
    square = Image.fromarray(image[y : y + side, x : x + side]).resize((size, size))
    turned = np.rot90(np.asarray(square, dtype=np.float64), int(rng.integers(4)))
    return np.clip(turned * rng.uniform(0.75, 1.25, size=3), 0, 255)


def corners(shape: str, turn: float) -> np.ndarray:
    """(P, 2) outline of a shape of radius 1 around the origin."""
    if shape == "star":
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, 0.42, 1.0)
    elif shape == "cross":
        a, b = 0.95, 0.32
        points = [(b, b), (a, b), (a, -b), (b, -b), (b, -a), (-b, -a), (-b, -b), (-a, -b)]
        points += [(-a, b), (-b, b), (-b, a), (b, a)]
        xs, ys = np.array(points).T
        angles, radii = np.arctan2(ys, xs), np.hypot(xs, ys)
    else:
        count = {"disc": 64, "ring": 64, "square": 4, "triangle": 3}[shape]
        angles, radii = np.arange(count) * 2 * np.pi / count, np.ones(count)
    return np.stack([np.cos(angles + turn), np.sin(angles + turn)], 1) * radii[:, None]


def cover(shape: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) in 0..1: how much of each pixel the shape covers."""
    radius = rng.uniform(0.11, 0.24) * size
    centre = rng.uniform(0.12, 0.88, size=2) * size
    canvas = Image.new("L", (size * OVERSAMPLE, size * OVERSAMPLE))
    outline = corners(shape, rng.uniform(0, 2 * np.pi))
    pen = ImageDraw.Draw(canvas)
    pen.polygon([tuple(p) for p in (outline * radius + centre) * OVERSAMPLE], fill=255)
    if shape == "ring":
        pen.polygon([tuple(p) for p in (outline * radius * 0.5 + centre) * OVERSAMPLE], fill=0)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float64) / 255


def ground(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) int: 0 or 1 on either side of a wavy line, with one side wholly 0 at times."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    turn, wave = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.08)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    line = across + wave * np.sin(along * rng.uniform(6, 14)) + rng.uniform(-0.2, 0.2)
    return (line > 0).astype(np.int64) if rng.random() > 0.2 else np.zeros((size, size), np.int64)


def scene(
    photos: dict[str, np.ndarray], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """A picture (size, size, 3) uint8, its ids (size, size) int, and the category of each id."""
    names = list(GROUNDS)
    kinds = rng.choice(len(names), size=2, replace=False)
    side = ground(size, rng)
    textures = np.stack([texture(photos[GROUNDS[names[k]]], size, rng) for k in kinds])
    image = np.take_along_axis(textures, side[None, ..., None], axis=0)[0]
    ids = side + 1
    category = {i + 1: len(SHAPES) + 1 + int(k) for i, k in enumerate(kinds)}
    for i in range(3, 3 + int(rng.integers(2, 6))):
        kind = int(rng.integers(len(SHAPES)))
        alpha = cover(SHAPES[kind], size, rng)
        skin = texture(photos[SKINS[int(rng.integers(len(SKINS)))]], size, rng)
        covered = np.where(alpha >= 0.5, i, ids)
        if (
            np.bincount(covered[np.isin(covered, ids)], minlength=i)[np.unique(ids)].min()
            < MIN_AREA
        ):
            continue  # it would hide an older one
        shade = np.pad(alpha, ((3, 0), (3, 0)))[:size, :size, None]
        image = image * (1 - 0.45 * shade)
        image = image * (1 - alpha[..., None]) + skin * alpha[..., None]
        ids, category[i] = covered, kind + 1
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), ids, category


def segments(ids: np.ndarray, category: dict[int, int]) -> list[dict[str, object]]:
    """COCO's `segments_info` of what is still to be seen."""
    infos = []
    for value in np.unique(ids).tolist():
        ys, xs = np.nonzero(ids == value)
        x, y = int(xs.min()), int(ys.min())
        box = [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1]
        entry = {"id": value, "category_id": category[value], "area": len(ys)}
        infos.append({**entry, "bbox": box, "iscrowd": 0})
    return infos


def draw(folder: Path, split: str, count: int, size: int, seed: int) -> None:
    """Write `count` scenes of one split below `folder`."""
    names = {*GROUNDS.values(), *SKINS}
    photos = {name: photograph(name, split == "train") for name in sorted(names)}
    for part in (split, f"{split}_panoptic"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        image, ids, category = scene(photos, size, np.random.default_rng((seed, i)))
        Image.fromarray(image).save(folder / split / f"{i:05d}.jpg", quality=95)
        png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
        Image.fromarray(png).save(folder / f"{split}_panoptic" / f"{i:05d}.png")
        images.append({"id": i, "file_name": f"{i:05d}.jpg", "height": size, "width": size})
        infos = segments(ids, category)
        annotations.append({"image_id": i, "file_name": f"{i:05d}.png", "segments_info": infos})
    content = {"images": images, "annotations": annotations, "categories": categories()}
    (folder / f"{split}.json").write_text(json.dumps(content))


def draw_all(folder: Path, *, train: int, val: int, size: int) -> None:
    """Both splits and the catalogue entry `scenes.yaml`."""
    draw(folder, "train", train, size, seed=1)
    draw(folder, "val", val, size, seed=2)
    (folder / "scenes.yaml").write_text(catalogue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--val", type=int, default=100)
    parser.add_argument("--size", type=int, default=160)
    args = parser.parse_args()
    draw_all(args.folder, train=args.train, val=args.val, size=args.size)
    print(f"{args.train} + {args.val} scenes in {args.folder}")
