"""COCO: panoptic PNGs become semantic PNGs of classes 0..132, 255 where nothing is annotated.

Not needed here (semantic truth is read from the panoptic files); for other tools.
Reads   coco/panoptic_{train,val}2017 and annotations/panoptic_*.json
Writes  coco/panoptic_semseg_{train,val}2017

    DETECTRON2_DATASETS=/data python datasets/prepare_coco_semantic_annos_from_panoptic_annos.py
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from rich.progress import track

CLASSES = Path(__file__).parent / "classes" / "coco_panoptic.yaml"


def convert(entry: dict, source: Path, goal: Path, classes: dict[int, int]) -> None:
    """One image."""
    pixels = np.asarray(Image.open(source / entry["file_name"]), dtype=np.int64)
    ids = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
    out = np.full(ids.shape, 255, np.uint8)
    for segment in entry["segments_info"]:
        out[ids == segment["id"]] = classes[segment["category_id"]]
    Image.fromarray(out).save(goal / entry["file_name"])


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    home = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "coco"
    ids = yaml.safe_load(CLASSES.read_text())["ids"]
    classes = {number: k for k, number in enumerate(ids)}
    for split in ("val2017", "train2017"):
        file = home / "annotations" / f"panoptic_{split}.json"
        if not file.exists():
            raise SystemExit(f"{file}: not there; see datasets/README.md")
        goal = home / f"panoptic_semseg_{split}"
        goal.mkdir(exist_ok=True)
        entries = json.loads(file.read_text())["annotations"]
        work = partial(convert, source=home / f"panoptic_{split}", goal=goal, classes=classes)
        with ProcessPoolExecutor() as pool:
            for _ in track(pool.map(work, entries, chunksize=32), split, total=len(entries)):
                pass


if __name__ == "__main__":
    main()
