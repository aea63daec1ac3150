"""Several processes: who starts them, and what a model is called with there."""

import subprocess
import sys
from pathlib import Path

import gpu_stand_in
import pytest

from segcore.engine.launch import launch
from segcore.errors import ConfigError

WORLD = """
import sys
from segcore.engine.launch import launch
fabric = launch(device="cpu")
fabric.barrier()
print(f"rank {fabric.global_rank} of {fabric.world_size}, main {fabric.is_global_zero}\\n", end="")
"""
WRAPPED = """
import os, sys, warnings
import torch
from torch import nn
from segcore.engine.launch import launch
from segcore.nn.layers import Normalise

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.normalise = Normalise(mean=[1.0] * 3, std=[2.0] * 3)
        self.bn = nn.BatchNorm2d(3)
    def forward(self, images, sizes):
        devices.append((images.device, sizes.device))
        return self.bn(self.normalise(images, sizes))

devices = []
warnings.simplefilter("error")
for ours in ("no current CUDA context", "Synchronization debug mode"):
    warnings.filterwarnings("ignore", message=f".*{ours}.*")
fabric = launch(num_gpus=2, precision="bf16")
model = fabric.setup_module(Model())
images = torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8).pin_memory()
sizes = torch.tensor([[[32, 32]], [[20, 30]]])
for step in range(3):  # DDP makes its buckets anew before the second
    on_gpu = images.to(fabric.device, non_blocking=True)
    torch.cuda.set_sync_debug_mode("error" if step == 2 else "default")
    fabric.backward(model(on_gpu, sizes).sum())
    torch.cuda.set_sync_debug_mode("default")
assert set(devices) == {(fabric.device, torch.device("cpu"))}
for parameter in model.parameters():
    assert parameter.grad.device == fabric.device
print(f"{fabric.global_rank} {fabric.device}\\n", end="", flush=True)
"""


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of rank 0 of two on one machine."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))


def test_flags_against_torchruns_world_raise(torchrun, monkeypatch):
    for flags, message in (
        ({"num_gpus": 3}, "--num-gpus 3, but torchrun started 2"),
        ({"num_machines": 4}, "--num-machines 4, but torchrun started 2"),
        ({"dist_url": "tcp://host:1"}, "--rdzv-endpoint"),
    ):
        with pytest.raises(ConfigError, match=message):
            launch(device="cpu", **flags)
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ConfigError, match="as many on every machine"):
        launch(device="cpu")


@pytest.mark.slow
def test_torchruns_processes_are_the_ranks(tmp_path):
    script = tmp_path / "world.py"
    script.write_text(WORLD)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith("rank"))
    assert lines == ["rank 0 of 2, main True", "rank 1 of 2, main False"]


@pytest.mark.slow
def test_a_model_of_several_ranks_is_called_without_a_wait_or_warning(
    stand_in: Path, tmp_path: Path
):
    script = tmp_path / "wrapped.py"
    script.write_text(WRAPPED)
    lines = gpu_stand_in.run_file(stand_in, script, gpus=2).splitlines()
    assert {"0 cuda:0", "1 cuda:1"} <= set(lines)
