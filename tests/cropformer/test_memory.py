"""The demo on a photograph: what it writes, and memory that does not grow with the queries."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

CONFIG = "configs/tiny/panoptic_tiny.yaml"
FUSE = ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
OPTS = ["ENTITY.ENABLE", "true", "MODEL.META_ARCHITECTURE", "CropFormer", *FUSE]


def demo(root, folder, size, *flags):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[size[0] // 6 : size[0] // 2, size[1] // 4 :] = 200
    Image.fromarray(pixels).save(folder / "photo.jpg")
    command = [sys.executable, "tools/demo.py", "--config-file", CONFIG]
    command += ["--input", str(folder / "photo.jpg"), "--output", str(folder / "out"), *flags]
    command += ["--confidence-threshold", "0", "--opts", *OPTS, "MODEL.WEIGHTS", ""]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("crops", [(), ("--num-crops", "0")])
def test_entities_as_files(root, tmp_path, crops):
    out = demo(root, tmp_path, (90, 120), *crops)
    content = json.loads((out / "photo.json").read_text())
    ids = np.asarray(Image.open(out / content["entities"]["file_name"]))
    assert (ids.dtype, ids.shape) == (np.uint16, (90, 120))
    areas = {s["id"]: s["area"] for s in content["panoptic"]["segments_info"]}
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    assert areas == dict(zip(found.tolist(), counts.tolist(), strict=True))
    assert Image.open(out / "photo.png").size == (120, 90)


@pytest.mark.slow
def test_a_photograph_of_48_megapixels_stays_under_6_gb(root, tmp_path):
    demo(root, tmp_path, (6000, 8000))
    # of the largest child of this process: none of the others comes near
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20 < 6
