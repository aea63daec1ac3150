"""ADE20K labels for semantic segmentation: 1..150 become 0..149, and 0 (other) becomes 255.

ADEChallengeData2016/annotations -> ADEChallengeData2016/annotations_detectron2
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from preparation import SPLITS, arguments, each, files, labels, run


def convert(paths: tuple[Path, Path]) -> None:
    """One label image."""
    source, target = paths
    Image.fromarray(labels(source) - np.uint8(1)).save(target)  # 0 wraps to 255


def main() -> None:
    """Both splits."""
    args = arguments(__doc__ or "")
    root = args.root / "ADEChallengeData2016"
    for split in SPLITS.values():
        target = root / "annotations_detectron2" / split
        target.mkdir(parents=True, exist_ok=True)
        jobs = [(file, target / file.name) for file in files(root / "annotations" / split, "*.png")]
        run(each(convert, jobs, args.workers, split))


if __name__ == "__main__":
    main()
