"""ADE20K's 100 things as COCO detection JSON.

ADEChallengeData2016/{images,annotations_instance} -> ADEChallengeData2016/ade20k_instance_*.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from preparation import (
    SPLITS,
    arguments,
    box,
    class_list,
    each,
    files,
    image_entry,
    instances,
    labels,
    write_json,
)
from pycocotools import mask as coco_mask

CLASSES = class_list("ade20k_instance")  # in the order of the instance categories 1..100


def convert(paths: tuple[Path, Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Image and annotations (which still lack their ids) of one photograph."""
    photograph, truth = paths
    annotations = []
    for category, mask in instances(labels(truth, 2), truth):
        rle: Any = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotations.append(
            {
                "image_id": photograph.stem,
                "iscrowd": 0,
                "category_id": CLASSES["ids"][category - 1],
                "bbox": box(mask),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "area": int(mask.sum()),
            }
        )
    return image_entry(photograph), annotations


def main() -> None:
    """Both splits."""
    args = arguments(__doc__ or "")
    root = args.root / "ADEChallengeData2016"
    names = zip(CLASSES["ids"], CLASSES["names"], strict=True)
    categories = [{"id": number, "name": name} for number, name in names]
    for name, split in SPLITS.items():
        truth = root / "annotations_instance" / split
        jobs = [(f, truth / f"{f.stem}.png") for f in files(root / "images" / split, "*.jpg")]
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image, found in each(convert, jobs, args.workers, split):
            images.append(image)
            start = len(annotations) + 1
            annotations += [entry | {"id": i} for i, entry in enumerate(found, start)]
        content = {"images": images, "categories": categories, "annotations": annotations}
        write_json(root / f"ade20k_instance_{name}.json", content)


if __name__ == "__main__":
    main()
