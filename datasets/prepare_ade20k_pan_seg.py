"""ADE20K panoptic: stuff of the semantic labels, then things over it, as COCO panoptic.

Reads   ADEChallengeData2016/{annotations_detectron2,annotations_instance}/{training,validation}
Writes  ADEChallengeData2016/ade20k_panoptic_{train,val}/*.png and .json

    DETECTRON2_DATASETS=/data python datasets/prepare_ade20k_pan_seg.py
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from rich.progress import track

CLASSES = Path(__file__).parent / "classes"


def box(mask: np.ndarray) -> list[int]:
    """x y width height."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    return [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1]


def segments(
    semantic: np.ndarray, instances: np.ndarray, things: list[int]
) -> tuple[np.ndarray, list[dict]]:
    """Ids (H, W) and segments_info; areas are those before anything covers a segment."""
    ids = np.zeros(semantic.shape, np.int32)
    found: list[dict] = []

    def add(mask: np.ndarray, category: int) -> None:
        ids[mask] = len(found) + 1
        entry = {"id": len(found) + 1, "category_id": category, "area": int(mask.sum())}
        found.append({**entry, "bbox": box(mask), "iscrowd": 0})

    for category in np.unique(semantic):
        if category != 255 and int(category) not in things:
            add(semantic == category, int(category))
    for instance in np.unique(instances[..., 1]):
        if instance != 0:
            mask = instances[..., 1] == instance
            add(mask, things[int(instances[..., 0][mask][0]) - 1])
    seen = set(np.unique(ids).tolist())  # a stuff region wholly covered by things has no pixel
    return ids, [s for s in found if s["id"] in seen]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    home = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "ADEChallengeData2016"
    classes = yaml.safe_load((CLASSES / "ade20k_150.yaml").read_text())
    things = yaml.safe_load((CLASSES / "ade20k_instance.yaml").read_text())["ids"]
    categories = [
        {"id": i, "name": n, "isthing": int(i in things)}
        for i, n in zip(classes["ids"], classes["names"], strict=True)
    ]
    for split, short in (("training", "train"), ("validation", "val")):
        files = sorted((home / "annotations_detectron2" / split).glob("*.png"))
        if not files:
            raise SystemExit("run datasets/prepare_ade20k_sem_seg.py first; see datasets/README.md")
        goal = home / f"ade20k_panoptic_{short}"
        goal.mkdir(exist_ok=True)
        images, entries = [], []
        for file in track(files, description=split):
            semantic = np.asarray(Image.open(file))
            instances = np.asarray(Image.open(home / "annotations_instance" / split / file.name))
            ids, found = segments(semantic, instances, things)
            png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
            Image.fromarray(png).save(goal / file.name)
            height, width = semantic.shape
            name = f"{file.stem}.jpg"
            images.append({"id": file.stem, "file_name": name, "width": width, "height": height})
            entry = {"image_id": file.stem, "file_name": file.name, "segments_info": found}
            entries.append(entry)
        content = {"images": images, "annotations": entries, "categories": categories}
        (home / f"ade20k_panoptic_{short}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
