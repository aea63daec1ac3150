"""Small whole runs: train_net.py in a process of its own, on a drawn data set."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from tiny import make_dataset
from tiny_runs import (
    CONFIG,
    ENVIRONMENT,
    ROOT,
    SHORT,
    assert_same_weights,
    options,
    start,
    train_net,
    wait_for,
)

from segcore.cli import train
from segcore.config import load_config
from segcore.errors import UserError
from segcore.predict import Predictor


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
    listed = json.loads((folder / "inference/tiny_panoptic/predictions.json").read_text())
    assert len(listed["annotations"]) == 8
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
def test_a_run_killed_twice_and_resumed_equals_an_unbroken_one(home):
    """It saves after every step, so that it often dies while saving."""
    train_net(home / "whole", *SHORT)
    every = (*SHORT, "SOLVER.CHECKPOINT_PERIOD", "1")
    for seen in ("model_0000002.pth", "model_0000006.pth.tmp"):
        process = start(home / "killed", *every, flags=["--resume"])
        wait_for(home / "killed", seen.replace(".tmp", "*"), process)
        process.kill()
        process.communicate()
    done = train_net(home / "killed", *every, flags=["--resume"])
    assert "resumed at iteration" in done.stdout
    assert_same_weights(home / "whole", home / "killed")


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_exactly(home):
    two = ["--num-gpus", "2"]
    cpu = (*SHORT, "SOLVER.CHECKPOINT_PERIOD", "2")
    train_net(home / "pair", *cpu, flags=two)
    process = start(home / "stopped pair", *cpu, flags=two)
    wait_for(home / "stopped pair", "model_0000001.pth", process)
    process.send_signal(signal.SIGTERM)  # to the first alone
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "stopped at iteration" in output
    train_net(home / "stopped pair", *cpu, flags=[*two, "--resume"])
    assert_same_weights(home / "pair", home / "stopped pair")


@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint_that_can_be_evaluated(home):
    folder = home / "stopped"
    process = start(folder, "SOLVER.MAX_ITER", "100000", "DATASETS.TEST", "[]")
    wait_for(folder, "metrics.json", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "train_net.py --resume" in output
    assert list(folder.glob("model_0*.pth"))
    evaluated = train_net(folder, flags=["--eval-only", "--resume"])
    assert "PQ" in evaluated.stdout


@pytest.mark.slow
def test_a_broken_image_costs_no_step(home):
    """The state of before is saved; with the image mended the run is what it would have been."""
    make_dataset(home / "mended" / "data")
    image = home / "mended/data/images/05.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    folder, one = home / "mended" / "run", (*SHORT, "SOLVER.IMS_PER_BATCH", "1")
    done = train_net(folder, *one, check=False)
    assert done.returncode == 1
    assert "05.png" in done.stderr and "Traceback" not in done.stderr
    assert len(list(folder.glob("model_0*.pth"))) == 1
    image.write_bytes(whole)
    assert "resumed at" in train_net(folder, *one, flags=["--resume"]).stdout
    train_net(home / "never broken", *one)
    assert_same_weights(folder, home / "never broken")


@pytest.mark.slow
def test_a_drawn_seed_is_kept_and_a_new_run_leaves_the_old_one_alone(home):
    folder, short = home / "drawn", ("DATASETS.TEST", "[]", "SOLVER.MAX_ITER")
    seeds = []
    for stop, flags in (("2", []), ("3", ["--resume"]), ("2", [])):
        train_net(folder, *short, stop, flags=flags)
        stored = torch.load(folder / "model_final.pth", weights_only=True)
        assert stored["config"]["SEED"] == load_config(folder / "config.yaml").SEED >= 0
        seeds.append(stored["config"]["SEED"])
    assert seeds[0] == seeds[1] != seeds[2]
    old = torch.load(folder / "earlier-1" / "model_final.pth", weights_only=True)
    assert (old["iteration"], stored["iteration"]) == (3, 2)


@pytest.mark.slow
def test_metrics_that_cannot_be_written_cost_no_training(home):
    folder = home / "full disk"
    folder.mkdir()
    (folder / "inference").write_text("in the way")
    done = train_net(folder, "SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "2")
    assert "metrics.json: could not be written" in done.stdout
    assert (folder / "model_0000001.pth").exists()  # from before the evaluation
    weights = ("MODEL.WEIGHTS", str(folder / "model_final.pth"))
    evaluated = train_net(folder, *weights, flags=["--eval-only"], check=False)
    assert evaluated.returncode == 1


@pytest.fixture
def as_it_was():
    """Environment variables, which a run sets for its whole process."""
    variables = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(variables)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["SOLVER.BASE_RL", "1"], "did you mean SOLVER.BASE_LR"),
        (["DATASETS.TRAIN", "[coco_2017_trian]"], "nearest names"),
        (
            ["DATASETS.TRAIN", "[tiny_semantic]"],
            "needs segments, but tiny_semantic has label images",
        ),
        (["DATASETS.TEST", "[tiny_panoptik]"], "nearest names"),
        (["DATASETS.TEST", "[cityscapes_fine_sem_seg_val]"], "model 3"),
        (["OUTPUT_DIR", "/dev/null/run"], "OUTPUT_DIR /dev/null/run: cannot be written"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "file not found"),
        (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full"], "expected full_model, value, norm"),
        (["SOLVER.IMS_PER_BATCH", "3", "SOLVER.ACCUMULATE", "2"], "cannot be split"),
    ],
)
def test_mistakes_raise_what_the_command_shows(home, as_it_was, more, message):
    machines = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
    opts = options(home / "mistake", "MODEL.DEVICE", "cpu", *more)
    with pytest.raises(UserError, match=re.escape(message)):
        train.main(config_file=CONFIG, opts=opts, resume=False, **machines)


@pytest.mark.slow
def test_a_mistake_ends_in_one_line(home):
    done = train_net(home / "mistake", "MODEL.WEIGHTS", "nowhere.pth", check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: nowhere\.pth: file not found[^\n]*\n", done.stderr)
