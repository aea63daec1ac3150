"""Whole runs of two processes that end before they are done, on the CPU and on a GPU that is none.

What is computed there means nothing; who waits for whom does.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import gpu_op
import gpu_stand_in
import pytest
import torch
from tiny import make_dataset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
from segcore.cli.main import main
from segcore.engine import children
children.GRACE = 2.0
main()
"""


class Runs:
    """A folder with data and a program; runs on it."""

    def __init__(self, folder: Path, environment: dict[str, str], device: str) -> None:
        self.folder, self.device = folder, device
        self.environment = environment | {"OMP_NUM_THREADS": "1"}
        self.program = folder / "program.py"
        self.program.write_text(PROGRAM)
        make_dataset(folder / "data")

    def start(self, output: Path, *flags: str) -> subprocess.Popen[str]:
        config = ROOT / "configs/tiny/panoptic_tiny.yaml"
        catalog = f"[{self.folder / 'data/tiny.yaml'}]"
        options = {"OUTPUT_DIR": output, "DATASETS.CATALOGS": catalog, "DATASETS.TEST": "[]",
                   "SEED": 3, "MODEL.DEVICE": self.device, "SOLVER.CHECKPOINT_PERIOD": 2,
                   "SOLVER.MAX_ITER": 100000}  # fmt: skip
        words = [str(word) for pair in options.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, self.program, "train", "--config-file", config, *flags, *words],
            env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def runs(request, tmp_path_factory) -> Runs:
    folder, environment = tmp_path_factory.mktemp("runs"), dict(os.environ)
    paths = [str(ROOT)]
    if request.param == "cuda":
        library = request.getfixturevalue("stand_in")
        environment = gpu_stand_in.environment(library, gpus=2)
        paths.insert(0, str(gpu_op.package(tmp_path_factory.mktemp("op"))))
    return Runs(folder, environment | {"PYTHONPATH": ":".join(paths)}, request.param)


def output_until(process: subprocess.Popen[str], text: str) -> str:
    """Its lines so far; fails where it ends before it says that."""
    lines = []
    for line in process.stdout or []:
        lines.append(line)
        if text in line:
            return "".join(lines)
    pytest.fail(f"never said {text!r}:\n{''.join(lines)}")


def iteration_of(folder: Path) -> int:
    name = (folder / "last_checkpoint").read_text()
    return torch.load(folder / name, map_location="cpu", weights_only=True)["iteration"]


def test_two_stop_together_and_one_goes_on(runs, tmp_path):
    process = runs.start(tmp_path, "--num-gpus", "2")
    before = output_until(process, "20/100000")
    process.send_signal(signal.SIGTERM)  # to the first alone
    said = before + process.communicate(timeout=120)[0]
    assert process.returncode == 143, said
    assert "Warning" not in said.replace("no current CUDA context", "")
    done = iteration_of(tmp_path)
    process = runs.start(tmp_path, "--resume")
    said = output_until(process, f"resumed at iteration {done}")
    assert "the run had 2 processes, now there are 1" in said
    output_until(process, f"{(done // 20 + 1) * 20}/100000")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert iteration_of(tmp_path) > done


def test_a_lost_process_costs_no_step_of_the_first(runs, tmp_path):
    process = runs.start(tmp_path, "--num-gpus", "2")
    before = output_until(process, "20/100000")
    (other,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(other), signal.SIGKILL)
    said = before + process.communicate(timeout=120)[0]
    assert process.returncode == 1, said
    assert "without the other processes" in said
    assert "process 1 of this machine ended with signal 9" in said
    done = iteration_of(tmp_path)
    assert done >= 20
    process = runs.start(tmp_path, "--resume", "--num-gpus", "2")
    assert "saved without all processes" in output_until(process, f"resumed at iteration {done}")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
