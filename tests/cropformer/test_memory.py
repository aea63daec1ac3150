"""Memory grows with the photograph, not with the number of queries."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, numpy as np, torch
from segcore.predict import Predictor
torch.set_num_threads(1)
fuse = ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
opts = ["ENTITY.ENABLE", "true", "MODEL.META_ARCHITECTURE", "CropFormer", *fuse]
predictor = Predictor("configs/tiny/panoptic_tiny.yaml", "", opts)
photograph = np.zeros((6000, 8000, 3), np.uint8)
photograph[1000:3000, 2000:7000] = 200
(result,) = predictor(photograph)
assert result.panoptic.map.shape == (6000, 8000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_photograph_of_48_megapixels_stays_under_6_gb(root):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 6
