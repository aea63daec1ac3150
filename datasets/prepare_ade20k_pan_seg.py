"""ADE20K panoptic: stuff of the semantic labels, things of the instance labels painted over it.

ADEChallengeData2016/{images,annotations,annotations_instance}
    -> ADEChallengeData2016/ade20k_panoptic_*.json and folders of PNGs of the same names
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
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

CLASSES = class_list("ade20k_150")
OF_INSTANCE = class_list("ade20k_instance")["ids"]  # class of the instance categories 1..100
THINGS = frozenset(CLASSES["things"])
OTHER = 255


def convert(paths: tuple[Path, Path, Path, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Image and annotation of one photograph; writes its PNG."""
    photograph, semantic, instance, target = paths
    classes = labels(semantic) - np.uint8(1)  # (H, W), 0 wraps to 255
    regions = [(int(k), classes == k) for k in np.unique(classes) if k != OTHER]
    stuff = [(k, mask) for k, mask in regions if k not in THINGS]
    found = instances(labels(instance, 2), instance)
    things = [(OF_INSTANCE[category - 1], mask) for category, mask in found]
    picture = np.zeros((*classes.shape, 3), np.uint8)
    taken, segments = {(0, 0, 0)}, []
    for category, mask in stuff + things:
        color = _free(CLASSES["colors"][category], taken)
        taken.add(color)
        picture[mask] = color
        segments.append(
            {
                "id": color[0] + 256 * color[1] + 65536 * color[2],
                "category_id": category,
                # before things hide stuff: published PQ is counted with these areas
                "area": int(mask.sum()),
                "bbox": box(mask),
                "iscrowd": 0,
            }
        )
    Image.fromarray(picture).save(target)
    annotation = {"image_id": photograph.stem, "file_name": target.name, "segments_info": segments}
    return image_entry(photograph), annotation


def _free(color: list[int], taken: set[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The class's colour, or one near it that no other segment has."""
    rng = np.random.default_rng(len(taken))
    for reach in count(1):
        near = (color[0], color[1], color[2])
        if near not in taken:
            return near
        red, green, blue = np.clip(color + rng.integers(-reach, reach + 1, 3), 0, 255).tolist()
        if (red, green, blue) not in taken:
            return red, green, blue
    raise AssertionError("there are 16 million colours")


def main() -> None:
    """Both splits."""
    args = arguments(__doc__ or "")
    root = args.root / "ADEChallengeData2016"
    categories = [
        {"id": k, "name": name, "isthing": int(k in THINGS), "color": color}
        for k, (name, color) in enumerate(zip(CLASSES["names"], CLASSES["colors"], strict=True))
    ]
    for name, split in SPLITS.items():
        target = root / f"ade20k_panoptic_{name}"
        target.mkdir(exist_ok=True, parents=True)
        semantic, instance = (root / f / split for f in ("annotations", "annotations_instance"))
        jobs = [
            (f, semantic / f"{f.stem}.png", instance / f"{f.stem}.png", target / f"{f.stem}.png")
            for f in files(root / "images" / split, "*.jpg")
        ]
        made = list(each(convert, jobs, args.workers, split))
        content = {
            "images": [image for image, _ in made],
            "annotations": [annotation for _, annotation in made],
            "categories": categories,
        }
        write_json(target.with_suffix(".json"), content)


if __name__ == "__main__":
    main()
