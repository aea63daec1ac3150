"""The real thing, small: train_net.py in a process of its own, on a drawn data set."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import make_dataset

from segcore.predict import Predictor

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


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_dataset(folder / "data")
    return folder


@pytest.mark.slow
def test_overfits_evaluates_and_draws(home):
    folder = home / "overfit"
    train_net(folder, "SEED", "1")
    weights = str(folder / "model_final.pth")
    metrics = json.loads((folder / "inference/tiny_panoptic/metrics.json").read_text())
    assert metrics["PQ"] > 90, metrics
    again = train_net(
        folder, "MODEL.WEIGHTS", str(folder / "model_final.pth"), flags=["--eval-only"]
    )
    assert f"{metrics['PQ']:.2f}" in again.stdout
    demo = [sys.executable, "tools/demo.py", "--config-file", CONFIG, "--weights", weights]
    demo += ["--input", str(home / "data/images"), "--output", str(home / "demo")]
    first = subprocess.run(demo, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    content = json.loads((home / "demo/00.json").read_text())
    assert content["panoptic"]["segments_info"]
    assert (home / "demo/00.png").exists()
    (home / "demo/03.json").unlink()
    second = subprocess.run(demo, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert "7 of 8 are done already" in second.stdout
    result = Predictor(CONFIG, weights)([home / "data/images/00.png"])[0]
    assert result.panoptic.map.shape == (72, 64)
    assert len(Predictor(CONFIG, weights).outputs([home / "data/images/00.png"]).layers) == 3


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one(home):
    short = ["SOLVER.CHECKPOINT_PERIOD", "4", "DATASETS.TEST", "[]", "SEED", "3"]
    for name in ("whole", "broken"):
        train_net(home / name, *short, "SOLVER.MAX_ITER", "8")
    (home / "broken" / "model_final.pth").unlink()
    (home / "broken" / "last_checkpoint").write_text("model_0000003.pth")
    train_net(home / "broken", *short, "SOLVER.MAX_ITER", "8", flags=["--resume"])
    states = [
        torch.load(home / name / "model_final.pth", weights_only=True)
        for name in ("whole", "broken")
    ]
    for key, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][key]), key


@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint(home):
    folder = home / "stopped"
    command = [sys.executable, "train_net.py", "--config-file", CONFIG]
    command += options(folder, "SOLVER.MAX_ITER", "100000", "DATASETS.TEST", "[]")
    process = subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    for _ in range(300):
        if (folder / "metrics.json").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "--resume" in output
    assert list(folder.glob("model_0*.pth"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["SOLVER.BASE_RL", "1"], "did you mean SOLVER.BASE_LR"),
        (["DATASETS.TRAIN", "[coco_2017_trian]"], "nearest names"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "file not found"),
        (["SOLVER.IMS_PER_BATCH", "3", "SOLVER.ACCUMULATE", "2"], "cannot be split"),
    ],
)
def test_mistakes_end_in_one_line(home, more, message):
    done = train_net(home / "mistake", *more, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
