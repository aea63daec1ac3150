"""What a whole run keeps as its best, and how it ends early, also over kill -9 and a resume."""

import json

import pytest
import torch
from killed_runs import killed_at
from tiny import make_dataset
from tiny_runs import SHORT, assert_same_weights, start, train_net, wait_for

# from 39 after four steps it would have to get past 99
BEST = (*SHORT, "DATASETS.TEST", "[tiny_panoptic]", "SOLVER.BASE_LR", "0.002",
        "SOLVER.MAX_ITER", "40", "TEST.EVAL_PERIOD", "4", "TEST.BEST_METRIC", "mIoU",
        "SOLVER.EARLY_STOPPING.PATIENCE", "2", "SOLVER.EARLY_STOPPING.MIN_DELTA", "60",
        "SOLVER.EMA.DECAY", "0.5")  # fmt: skip
TWO = ["--num-gpus", "2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best runs")
    make_dataset(folder / "data")
    train_net(folder / "whole", *BEST)
    return folder


def stored(folder, name):
    return torch.load(folder / f"{name}.pth", weights_only=True)


def assert_equal(one, other, where=""):
    """Bit for bit, through all that a checkpoint holds."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_equal(value, other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}/{number}")
    else:
        assert one == other or one != one != other, where


def assert_same_run(one, other):
    """Weights and their averages, optimizer, random numbers, evaluations, and the best of them."""
    for name in ("model_final", "model_best"):
        pair = [stored(folder, name) for folder in (one, other)]
        for content in pair:
            content["config"].pop("OUTPUT_DIR")
        assert_equal(*pair)
    assert {"model_ema", "ema_updates", "trainer", "rng", "evaluations"} <= stored(
        one, "model_final"
    ).keys()
    assert (one / "best.json").read_text() == (other / "best.json").read_text()


def evaluated(folder):
    """The last checkpoint, and the iterations that best.json knows."""
    best, last = folder / "best.json", (folder / "last_checkpoint").read_text()
    content = json.loads(best.read_text()) if best.exists() else {"evaluations": []}
    return last, [evaluation["iteration"] for evaluation in content["evaluations"]]


@pytest.mark.slow
def test_the_best_of_a_run_is_what_its_metrics_say(home):
    folder = home / "whole"
    log = (folder / "log.txt").read_text()
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    values = {line["iteration"]: line["mIoU"] for line in lines if "mIoU" in line}
    written = json.loads((folder / "best.json").read_text())
    assert written["value"] == max(values.values()) == values[written["iteration"]]
    assert stored(folder, "model_best")["iteration"] == written["iteration"]
    assert stored(folder, "model_final")["iteration"] == max(values) == 12
    assert "ended at iteration 12: mIoU has not improved by more than 60 in 2 evaluations" in log
    command = log.splitlines()[-1]
    assert "segcore predict" in command and "model_best.pth" in command


@pytest.mark.slow
def test_killed_while_evaluating_and_resumed_equals_an_unbroken_run(home):
    folder = home / "killed"
    for seen in ("model_0000003.pth", "model_0000007.pth"):  # written before their evaluations
        process = start(folder, *BEST, flags=["--resume"])
        wait_for(folder, seen, process)
        process.kill()
        process.communicate()
    train_net(folder, *BEST, flags=["--resume"])
    assert_same_weights(home / "whole", folder)
    assert_same_weights(home / "whole", folder, "model_best")
    assert_same_run(home / "whole", folder)


@pytest.mark.slow
def test_killed_with_a_new_best_and_between_checkpoints_equals_an_unbroken_run(home):
    folder = home / "killed again"
    killed_at("os.rename /best.json 1", folder, *BEST, flags=["--resume"])
    assert (folder / "model_best.pth").exists()
    assert evaluated(folder) == ("model_0000003.pth", [])
    killed_at("os.rename /best.json 1, open .png 12", folder, *BEST, flags=["--resume"])
    assert evaluated(folder) == ("model_0000003.pth", [4])
    train_net(folder, *BEST, flags=["--resume"])
    assert_same_run(home / "whole", folder)


@pytest.mark.slow
def test_two_processes_killed_twice_equal_two_unbroken_ones(home):
    whole, folder = home / "whole pair", home / "killed pair"
    train_net(whole, *BEST, flags=TWO)
    killed_at("os.rename /model_best.pth 1", folder, *BEST, flags=[*TWO, "--resume"])
    assert (folder / "model_best.pth.tmp").exists()  # whole, but not yet in its place
    assert evaluated(folder) == ("model_0000003.pth", [])
    between = "os.rename /best.json 1, open .png 6"
    killed_at(between, folder, *BEST, flags=[*TWO, "--resume"])
    assert evaluated(folder) == ("model_0000003.pth", [4])
    train_net(folder, *BEST, flags=[*TWO, "--resume"])
    assert_same_run(whole, folder)
