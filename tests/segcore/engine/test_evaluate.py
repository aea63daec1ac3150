"""Evaluation sees every image once, whatever the number of processes."""

import subprocess
import sys

import pytest
import torch
from fake_task import batch, make_fabric, make_task

from segcore.engine import evaluate as module
from segcore.engine.evaluate import evaluate
from segcore.errors import DataError


class Areas:
    """Remembers which images came, and the area of the mask in each."""

    def __init__(self, name="areas"):
        self.name, self.parts = name, []

    def update(self, result, record):
        assert torch.is_inference_mode_enabled()
        self.parts.append((record.id, int(result.semantic.sum())))

    def compute(self):
        return {self.name: float(len(self.parts))}


def test_every_image_reaches_every_evaluator_and_the_writer():
    task, saved = make_task(), []
    task.model.train()
    evaluators = [Areas("a"), Areas("b")]
    loader = [batch(1, 2), batch(3)]
    metrics = evaluate(
        task, loader, evaluators, make_fabric(), save_result=lambda _, record: saved.append(record)
    )
    assert metrics == {"a": 3, "b": 3}
    assert [name for name, _ in evaluators[0].parts] == ["image 1", "image 2", "image 3"]
    assert evaluators[0].parts == evaluators[1].parts
    assert [record.id for record in saved] == ["image 1", "image 2", "image 3"]
    assert task.model.training  # as it was


def test_an_empty_data_set_is_evaluated_too():
    assert evaluate(make_task(), [], [Areas()], make_fabric()) == {"areas": 0}


def test_two_evaluators_of_one_number_raise():
    with pytest.raises(ValueError, match="two evaluators give"):
        evaluate(make_task(), [batch(1)], [Areas(), Areas()], make_fabric())


def test_an_evaluation_is_left_between_batches(caplog):
    areas, task = Areas(), make_task()
    loader = [batch(1), batch(2), batch(3)]
    assert evaluate(task, loader, [areas], make_fabric(), stop=lambda: True) is None
    assert [name for name, _ in areas.parts] == ["image 1"]
    assert task.model.training


def test_broken_data_raises_and_the_model_is_as_it_was():
    def loader():
        yield batch(1)
        raise DataError("2.png: broken")

    task = make_task()
    with pytest.raises(DataError, match=r"^2\.png: broken$"):
        evaluate(task, loader(), [Areas()], make_fabric())
    assert task.model.training


def test_progress_is_logged_where_there_is_no_terminal(monkeypatch, caplog):
    monkeypatch.setattr(module, "PERIOD", 0.0)
    with caplog.at_level("INFO"):
        evaluate(make_task(), [batch(1), batch(2)], [Areas()], make_fabric())
    assert "evaluated 2/2" in caplog.text


TWO = """
import sys
sys.path.insert(0, {here!r})
from fake_task import batch, make_task
from test_evaluate import Areas
from segcore.engine import evaluate as module
from segcore.engine.launch import launch

module.CHUNK = 2
fabric = launch(num_gpus=2, device="cpu")
shares = [[batch(n) for n in range(5)], [batch(5)]]
areas = Areas()
metrics = module.evaluate(make_task(), shares[fabric.global_rank], [areas], fabric)
names = [name for name, _ in areas.parts]
with open({out!r} + str(fabric.global_rank), "w") as stream:
    print(metrics, names, file=stream)
"""


@pytest.mark.slow
def test_two_processes_hand_their_parts_to_the_first(tmp_path):
    script, here = tmp_path / "two.py", __file__.rpartition("/")[0]
    script.write_text(TWO.format(here=here, out=str(tmp_path / "rank")))
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)
    names = [f"image {n}" for n in range(6)]
    assert (tmp_path / "rank0").read_text() == f"{{'areas': 6.0}} {names}\n"
    assert (tmp_path / "rank1").read_text().startswith("{} ")
