"""The benchmark of a GPU, end to end on a GPU that is none, and without any."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_op
import gpu_stand_in
import pytest

from tools import bench_gpu

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools/bench_gpu.py"
KINDS = ("training: ours, fp32", "training: ours, bf16", "inference: ours, fp32")
ONLY = ("build", "op-equals", "compute-sanitizer", *KINDS)


@pytest.mark.slow
def test_a_failed_check_loses_no_other_stage_and_no_time_counts(stand_in: Path, tmp_path: Path):
    """The stand-in has no right numbers, nor a driver for Triton: the op's check cannot hold."""
    found = {"PYTHONPATH": f"{gpu_op.package(tmp_path)}:{ROOT}", "PATH": str(tmp_path)}
    output = tmp_path / "runs/gpu"
    command = [sys.executable, TOOL, "--tiny", "--no-build", "--output", output, "--only", *ONLY]
    environment = gpu_stand_in.environment(stand_in) | found
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    written = json.loads(output.with_suffix(".json").read_text())
    stages = {stage["name"]: stage for stage in written["stages"]}
    status = {name: stage["status"] for name, stage in stages.items()}
    assert status == {
        "build": "skipped",
        "op-equals-grid-sample": "failed",
        "compute-sanitizer": "skipped",
        **dict.fromkeys(KINDS, "ok"),
    }
    assert stages["compute-sanitizer"]["why"] == "compute-sanitizer is not on PATH"
    assert stages["op-equals-grid-sample"]["why"].startswith("exit 1: ")
    assert all(stages[kind]["result"]["ms"] > 0 for kind in KINDS)
    assert "Stand-in" in written["machine"]["GPU"]
    table = output.with_suffix(".md").read_text()
    assert "No time below counts" in table
    assert sum(line.startswith("| training: ours, fp32 |") for line in table.splitlines()) == 2


@pytest.mark.slow
def test_losses_of_one_device_differ_by_nothing():
    assert bench_gpu.losses(device="cpu", side=64) == {"difference": 0}


@pytest.mark.slow
def test_without_a_gpu_one_line_says_so_and_nothing_is_built(tmp_path: Path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, TOOL, "--output", tmp_path / "gpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no GPU that torch can use: nothing was built or timed\n"
    assert not list(tmp_path.iterdir())
