"""What a whole run keeps as its best, and how it ends early, also over kill -9 and a resume."""

import json

import pytest
import torch
from tiny import make_dataset
from tiny_runs import SHORT, assert_same_weights, start, train_net, wait_for

# from 39 after four steps it would have to get past 99
BEST = (*SHORT, "DATASETS.TEST", "[tiny_panoptic]", "SOLVER.BASE_LR", "0.002",
        "SOLVER.MAX_ITER", "40", "TEST.EVAL_PERIOD", "4", "TEST.BEST_METRIC", "mIoU",
        "SOLVER.EARLY_STOPPING.PATIENCE", "2", "SOLVER.EARLY_STOPPING.MIN_DELTA", "60")  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("best runs")
    make_dataset(folder / "data")
    train_net(folder / "whole", *BEST)
    return folder


def stored(folder, name):
    return torch.load(folder / f"{name}.pth", weights_only=True)


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
    assert (folder / "best.json").read_text() == (home / "whole/best.json").read_text()
