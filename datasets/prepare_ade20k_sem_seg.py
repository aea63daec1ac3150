"""ADE20K semantic: labels 1..150 become 0..149, "other" (0) becomes 255.

Reads   ADEChallengeData2016/annotations/{training,validation}
Writes  ADEChallengeData2016/annotations_detectron2/{training,validation}

    DETECTRON2_DATASETS=/data python datasets/prepare_ade20k_sem_seg.py
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track


def convert(source: Path, goal: Path) -> None:
    """Subtract one, modulo 256."""
    with Image.open(source) as image:
        labels = np.asarray(image)
    assert labels.dtype == np.uint8, f"{source}: expected 8-bit labels, found {labels.dtype}"
    Image.fromarray(labels - np.uint8(1)).save(goal)  # 0 wraps to 255


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    home = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "ADEChallengeData2016"
    for split in ("training", "validation"):
        files = sorted((home / "annotations" / split).glob("*.png"))
        if not files:
            raise SystemExit(
                f"{home / 'annotations' / split}: no PNG there; see datasets/README.md"
            )
        goal = home / "annotations_detectron2" / split
        goal.mkdir(parents=True, exist_ok=True)
        for file in track(files, description=split):
            convert(file, goal / file.name)


if __name__ == "__main__":
    main()
