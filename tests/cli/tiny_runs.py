"""Small whole runs: train_net.py in a process of its own, for tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs/tiny/panoptic_tiny.yaml")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def options(folder, *more):
    catalog = folder.parent / "data" / "tiny.yaml"
    return ["OUTPUT_DIR", str(folder), "DATASETS.CATALOGS", f"[{catalog}]", *more]


def train_net(folder, *more, flags=(), check=True):
    command = [sys.executable, "train_net.py", "--config-file", CONFIG, *flags]
    done = subprocess.run(
        [*command, *options(folder, *more)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


SHORT = (
    *("SOLVER.MAX_ITER", "12", "DATASETS.TEST", "[]", "SEED", "3", "SOLVER.BASE_LR", "1e-4"),
    *("MODEL.DEVICE", "cpu"),  # where runs are equal bit for bit
)


def start(folder, *more, flags=()):
    command = [sys.executable, "train_net.py", "--config-file", CONFIG, *flags]
    return subprocess.Popen(
        [*command, *options(folder, *more)],
        cwd=ROOT, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(folder, pattern, process):
    for _ in range(2400):
        if list(folder.glob(pattern)):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail(f"{folder} never had {pattern}")


def assert_same_weights(one, other, name="model_final"):
    states = [torch.load(f / f"{name}.pth", weights_only=True)["model"] for f in (one, other)]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
