"""LVIS's annotations of COCO's 80 classes, under COCO's ids: what AP* is measured against.

lvis/lvis_{v0.5_train,v0.5_val,v1_val}.json, those that are there -> lvis/*_cocofied.json

LVIS v0.5's validation images are COCO's; of v1's, those that COCO trains on are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from preparation import arguments, class_list, each, run, write_json

COCO_IDS: dict[str, int] = class_list("coco_synsets")  # by synset
FILES = ("lvis_v0.5_train", "lvis_v0.5_val", "lvis_v1_val")
LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of an image


def cocofied(content: dict[str, Any]) -> dict[str, Any]:
    """Categories, annotations and what images say of categories, as far as COCO has the class."""
    known = {
        c["id"]: COCO_IDS[c["synset"]] for c in content["categories"] if c["synset"] in COCO_IDS
    }
    images = [
        image | {key: [known[i] for i in image[key] if i in known] for key in LISTS}
        for image in content["images"]
    ]
    kept = [entry for entry in content["annotations"] if entry["category_id"] in known]
    annotations = [
        entry | {"id": number, "category_id": known[entry["category_id"]]}
        for number, entry in enumerate(kept, 1)
    ]
    used = {entry["category_id"] for entry in annotations}
    used |= {i for image in images for key in LISTS for i in image[key]}
    categories = [
        category | {"id": known[category["id"]]}
        for category in content["categories"]
        if known.get(category["id"]) in used
    ]
    more = {"images": images, "annotations": annotations, "categories": categories}
    return content | more


def of_validation(content: dict[str, Any]) -> dict[str, Any]:
    """The part of it that lies in val2017."""
    images = [image for image in content["images"] if "/val2017/" in image["coco_url"]]
    numbers = {image["id"] for image in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in numbers]
    return content | {"images": images, "annotations": annotations}


def convert(file: Path) -> None:
    """Write FILE_cocofied.json beside the file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if file.stem == "lvis_v1_val":
        content = of_validation(content)
    write_json(file.with_name(f"{file.stem}_cocofied.json"), cocofied(content))


def main() -> None:
    """All files that are there."""
    args = arguments(__doc__ or "")
    folder = args.root / "lvis"
    found = [file for name in FILES if (file := folder / f"{name}.json").is_file()]
    if not found:
        raise SystemExit(
            f"{folder}: has none of {', '.join(f'{name}.json' for name in FILES)}; set"
            " DETECTRON2_DATASETS (or --root) to the folder that holds the data sets as"
            " datasets/README.md shows them"
        )
    run(each(convert, found, args.workers, "files"))


if __name__ == "__main__":
    main()
