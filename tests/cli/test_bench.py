"""The benchmark measures everybody on one device; run on a GPU that is none."""

from pathlib import Path

import gpu_op
import gpu_stand_in
import pytest

STEPS = """
import ctypes, os, sys, torch
sys.path.insert(0, sys.argv[1])
from segcore.cli import bench_contenders as bench

def calls():
    out = (ctypes.c_long * 4)()
    ctypes.CDLL(os.environ["LD_PRELOAD"]).stand_in_counts(out)
    return out[0]

run, before = bench.training("ours, bf16"), calls()
run()
bench.finish()
assert calls() - before > 1000
assert bench.inference("ours, fp32").func.device == torch.device("cuda")
class Theirs(torch.nn.Module):  # transformers takes long to load
    def __init__(self, config):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 1)
    def forward(self, pixel_values, mask_labels=(), class_labels=()):
        for x in (pixel_values, *mask_labels, *class_labels):
            assert x.device == self.layer.weight.device == torch.device("cuda:0"), x.device
        loss = self.layer(pixel_values).mean()
        return type("Out", (), {"loss": loss, "masks_queries_logits": pixel_values})
made = {"ResNetConfig": dict, "Mask2FormerConfig": dict}
made["Mask2FormerForUniversalSegmentation"] = Theirs
bench.import_module = lambda name: type("transformers", (), made)
for what in (bench.training, bench.inference):
    what("transformers, bf16")()
"""


@pytest.mark.slow
def test_everybody_runs_on_the_gpu(stand_in: Path, tmp_path: Path):
    gpu_stand_in.run(stand_in, STEPS, gpu_op.package(tmp_path))
