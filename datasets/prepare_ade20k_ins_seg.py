"""ADE20K instances: PNGs of (category, instance) become COCO JSON with RLE masks.

Reads   ADEChallengeData2016/annotations_instance/{training,validation}, images/...
Writes  ADEChallengeData2016/ade20k_instance_{train,val}.json

    DETECTRON2_DATASETS=/data python datasets/prepare_ade20k_ins_seg.py
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from rich.progress import track

CLASSES = Path(__file__).parent / "classes" / "ade20k_instance.yaml"


def annotations(png: Path, image_id: str, ids: list[int], first: int) -> list[dict]:
    """One entry an instance; channel 0 is the category (1..100), channel 1 the instance."""
    pixels = np.asarray(Image.open(png))
    found = []
    for instance in np.unique(pixels[..., 1]):
        if instance == 0:
            continue
        mask = pixels[..., 1] == instance
        categories = np.unique(pixels[..., 0][mask])
        if len(categories) != 1:
            raise SystemExit(f"{png}: instance {instance} has categories {categories.tolist()}")
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        ys, xs = np.nonzero(mask)
        x, y = int(xs.min()), int(ys.min())
        found.append(
            {
                "id": first + len(found),
                "image_id": image_id,
                "category_id": ids[int(categories[0]) - 1],
                "iscrowd": 0,
                "area": len(ys),
                "bbox": [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return found


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    home = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "ADEChallengeData2016"
    classes = yaml.safe_load(CLASSES.read_text())
    categories = [
        {"id": i, "name": n} for i, n in zip(classes["ids"], classes["names"], strict=True)
    ]
    for split, short in (("training", "train"), ("validation", "val")):
        files = sorted((home / "annotations_instance" / split).glob("*.png"))
        if not files:
            raise SystemExit(f"{home / 'annotations_instance' / split}: no PNG; see README.md")
        images, entries = [], []
        for file in track(files, description=split):
            with Image.open(file) as image:
                width, height = image.size
            name = f"{file.stem}.jpg"
            images.append({"id": file.stem, "file_name": name, "width": width, "height": height})
            entries += annotations(file, file.stem, classes["ids"], len(entries) + 1)
        content = {"images": images, "annotations": entries, "categories": categories}
        (home / f"ade20k_instance_{short}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
