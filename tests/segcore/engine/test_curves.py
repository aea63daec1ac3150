"""What a run wrote down, read back and drawn; loggers of other packages, by stand-ins."""

import json
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from segcore.config import load_config
from segcore.engine.curves import draw_curves
from segcore.engine.log import RunLog
from segcore.engine.metrics_file import read_history
from segcore.errors import ConfigError

STAND_IN = """calls = []
class Run:
    def log(self, values, step): calls.append((step, values))
    def finish(self): calls.append("end")
def init(**given): calls.append(given); return Run()
def log(values, step): calls.append((step, values))
def finish(): calls.append("end")
def start_run(run_name): calls.append({"name": run_name})
log_metrics = log
end_run = finish
"""


def write(folder, *entries, tail=""):
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "metrics.json").write_text(text + tail)


def step(iteration, loss=1.0):
    return {"iteration": iteration, "total_loss": loss, "loss_ce": loss / 2, "lr": 0.1}


def recorded(plot, labels):
    """Axes.plot, which notes what each line is called."""

    def plotted(axes, *values, **given):
        labels.append(given["label"])
        return plot(axes, *values, **given)

    return plotted


def test_what_a_run_did_again_takes_the_place_of_what_it_did_before(tmp_path):
    write(
        tmp_path, step(20), step(40), {"iteration": 40, "PQ": 1.0}, step(60),
        step(40, 3.0), {"iteration": 40, "PQ": 2.0, "APs": None}, tail='{"iterat',
    )  # fmt: skip
    history = read_history(tmp_path)
    assert [(e["iteration"], e["total_loss"]) for e in history.steps] == [(20, 1.0), (40, 3.0)]
    assert history.evaluations == [{"iteration": 40, "PQ": 2.0}]
    write(tmp_path, step(20), step(40), {"iteration": 40, "PQ": 1.0}, step(20, 5.0))
    history = read_history(tmp_path)
    assert ([e["total_loss"] for e in history.steps], history.evaluations) == ([5.0], [])


def test_curves_change_with_what_was_written(tmp_path):
    assert not draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()
    pictures = []
    for entries in ([step(20), step(40)], [step(20), step(40), {"iteration": 40, "PQ": 9.0}]):
        write(tmp_path, *entries)
        assert draw_curves(tmp_path, "PQ")
        pictures.append(np.asarray(Image.open(tmp_path / "curves.png")))
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.json"]


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        ("PQ", ["PQ", "AP", "mIoU", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th"]),
        ("AP", ["AP", "PQ", "mIoU", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th"]),
        ("AP50", ["AP50", "PQ", "AP", "mIoU", "SQ", "RQ", "PQ_th", "SQ_th"]),
    ],
)
def test_metrics_of_each_task_are_drawn_before_their_parts(tmp_path, best, expected, monkeypatch):
    names = ["PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "PQ-cat", "AP", "AP50", "mIoU"]
    write(tmp_path, step(20), {"iteration": 20} | dict.fromkeys(names, 1.0))
    drawn = []
    monkeypatch.setattr(Axes, "plot", recorded(Axes.plot, drawn))
    assert draw_curves(tmp_path, best)
    assert drawn[-8:] == expected


def test_metrics_of_several_sets_are_drawn_by_task(tmp_path, monkeypatch):
    names = [f"{name}/{metric}" for name in ("a", "b") for metric in ("APe", "APe50", "HOTA")]
    write(tmp_path, step(20), {"iteration": 20} | dict.fromkeys(names, 1.0))
    drawn = []
    monkeypatch.setattr(Axes, "plot", recorded(Axes.plot, drawn))
    assert draw_curves(tmp_path, "b/HOTA")
    assert drawn[-6:] == ["b/HOTA", "a/APe", "b/APe", "a/HOTA", "a/APe50", "b/APe50"]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_loggers_get_every_number_and_the_end(name, tmp_path, monkeypatch):
    (tmp_path / f"{name}.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    log = RunLog(tmp_path / "run", 9, [name])
    log.write({"iteration": 3, "AP-left (hand)": 2.0}, 3)
    log.close()
    calls = sys.modules[name].calls
    called = "AP-left _hand_" if name == "mlflow" else "AP-left (hand)"
    assert calls[0]["name"] == "run"
    assert calls[1:] == [(3, {called: 2.0}), "end"]
    monkeypatch.delitem(sys.modules, name)
    assert not list((tmp_path / "run").glob("events*"))


def test_a_logger_without_its_package_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        RunLog(tmp_path, 9, ["wandb"])
    with pytest.raises(ConfigError, match="expected a list of tensorboard, wandb"):
        load_config(None, ["LOGGERS", "[comet]"])
