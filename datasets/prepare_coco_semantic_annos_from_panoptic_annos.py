"""COCO panoptic PNGs -> semantic PNGs: classes 0..132, 255 where nothing is annotated.

coco/panoptic_*2017 and coco/annotations/panoptic_*2017.json -> coco/panoptic_semseg_*2017
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from preparation import arguments, class_list, each, labels, run

CLASS_OF = {number: k for k, number in enumerate(class_list("coco_panoptic")["ids"])}
NOTHING = 255
Job = tuple[Path, Path, dict[int, int]]  # panoptic PNG, semantic PNG, category by segment id


def convert(job: Job) -> None:
    """One label image."""
    source, target, categories = job
    pixels = labels(source, 3).astype(np.uint32)
    ids = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]  # (H, W)
    found, place = np.unique(ids, return_inverse=True)
    known = {number: CLASS_OF[category] for number, category in categories.items()}
    classes = np.array([known.get(int(number), NOTHING) for number in found], np.uint8)
    Image.fromarray(classes[place.reshape(ids.shape)]).save(target)


def main() -> None:
    """Validation first: it is short."""
    args = arguments(__doc__ or "")
    root = args.root / "coco"
    for split in ("val2017", "train2017"):
        path = root / "annotations" / f"panoptic_{split}.json"
        if not path.is_file():
            raise SystemExit(f"{path}: not found; see datasets/README.md for COCO's folders")
        source, target = root / f"panoptic_{split}", root / f"panoptic_semseg_{split}"
        target.mkdir(parents=True, exist_ok=True)
        content = json.loads(path.read_bytes())
        jobs: list[Job] = [
            (
                source / entry["file_name"],
                target / entry["file_name"],
                {s["id"]: s["category_id"] for s in entry["segments_info"]},
            )
            for entry in content["annotations"]
        ]
        run(each(convert, jobs, args.workers, split))


if __name__ == "__main__":
    main()
