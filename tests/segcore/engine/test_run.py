"""A run is saved and taken up again, from checkpoints of every version."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_task import batch, make_fabric, make_task
from filling_disk import full_disk

from segcore.contracts import ClassRows
from segcore.engine.checkpoint import Checkpoints
from segcore.engine.optim import Clipping, poly
from segcore.engine.run import Run
from segcore.engine.save_atomic import save_atomic
from segcore.engine.trainer import Trainer
from segcore.engine.weights import Report
from segcore.errors import WeightsError


def make_run(folder, seed=0):
    task = make_task(seed)
    fabric = make_fabric()
    schedule = poly(max_iter=10, power=0.9, ending=0.0, warmup=(0, 1.0, "linear"))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.1)
    trainer = Trainer(task, optimizer, schedule, fabric, clipping=Clipping())
    about = {"config": {"SEED": 1}, "metadata": version_1()["metadata"]}
    return Run(task, trainer, fabric, Checkpoints(folder), about)


def test_training_goes_on_over_a_full_disk_but_the_end_says_so(tmp_path, monkeypatch, caplog):
    run = make_run(tmp_path)
    full_disk(monkeypatch, 300)
    run.trainer.fit(iter([batch(1)] * 3), 3, [(1, run.save)])
    assert run.trainer.iteration == 3
    assert "training goes on" in caplog.text
    with pytest.raises(OSError, match=r"model_final\.pth: could not be written"):
        run.save_as("model_final")


def test_a_run_is_taken_up_with_all_it_had(tmp_path):
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1), batch(2)]), 2, [])
    run.save(2)
    expected = torch.rand(4)
    stored = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    assert stored["iteration"] == 2
    assert stored["metadata"] == version_1()["metadata"]
    other = make_run(tmp_path, seed=5)
    assert other.resume()
    assert other.trainer.iteration == 2
    assert torch.equal(torch.rand(4), expected)
    for a, b in zip(run.task.model.parameters(), other.task.model.parameters(), strict=True):
        assert torch.equal(a, b)
    moments = [r.trainer.state()["optimizer"]["state"][0]["exp_avg"] for r in (run, other)]
    assert torch.equal(*moments)


def test_a_folder_without_checkpoints_is_not_resumed(tmp_path):
    assert not make_run(tmp_path).resume()


def test_foreign_weights_raise(tmp_path):
    Checkpoints(tmp_path).save({"model": {"w": torch.ones(3)}}, "model_final")
    with pytest.raises(WeightsError, match=r"MODEL\.WEIGHTS instead"):
        make_run(tmp_path).resume()


@pytest.mark.parametrize("change", ["resized", "reinitialised"])
def test_another_model_raises(tmp_path, monkeypatch, change):
    make_run(tmp_path).save(1)
    report = Report(**{change: {"decoder.query_feat.weight": "8 -> 12 queries"}})
    monkeypatch.setattr("segcore.engine.run.load_into_task", lambda *_, **__: report)
    with pytest.raises(WeightsError, match=r"another model: .*8 -> 12.*MODEL\.WEIGHTS"):
        make_run(tmp_path).resume()


def test_one_iteration_is_saved_once(tmp_path):
    run = make_run(tmp_path)
    run.save(0)  # nothing is done yet
    assert not list(tmp_path.iterdir())
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    (tmp_path / "model_0000000.pth").unlink()
    run.save(1)
    assert not (tmp_path / "model_0000000.pth").exists()
    run.save_as("model_final")
    assert (tmp_path / "model_final.pth").exists()


def moments(*shape):
    return {"step": torch.tensor(2.0), "exp_avg": torch.full(shape, 0.5),
            "exp_avg_sq": torch.full(shape, 0.25)}  # fmt: skip


def version_1():
    """What the first program wrote after two steps of the fake task, number for number."""
    group = {"lr": 0.08, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01,
             "amsgrad": False, "maximize": False, "foreach": None, "capturable": False,
             "differentiable": False, "fused": None, "params": [0, 1, 2]}  # fmt: skip
    keys = torch.arange(624, dtype=torch.int64)
    return {
        "model": {"label": torch.tensor([0.5, -0.5]), "color.weight": torch.ones(1, 3),
                  "color.bias": torch.zeros(1)},
        "trainer": {
            "optimizer": {"state": {0: moments(2), 1: moments(1, 3), 2: moments(1)},
                          "param_groups": [group]},
            "iteration": 2,
            "scaler": {},
        },
        "iteration": 2,
        "rng": [{
            "torch": torch.Generator().manual_seed(4).get_state(),
            "numpy": ["MT19937", keys, 624, 0],
            "numpy_gauss": 0.0,
            "python": [3, [*range(624), 624], None],
            "cuda": [torch.zeros(16, dtype=torch.uint8)] if not torch.cuda.is_available()
            else torch.cuda.get_rng_state_all(),
        }],
        "version": 1,
        "config": {"SEED": 7},
        "metadata": {"name": "fake", "classes": ["thing"], "dataset_ids": [1], "is_thing": [True],
                     "colors": [[0, 0, 0]], "ignore_label": 255, "label_map": None,
                     "evaluators": []},
    }  # fmt: skip


def test_checkpoints_of_the_first_version_resume(tmp_path):
    torch.save(version_1(), tmp_path / "model_0000001.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    run = make_run(tmp_path)
    assert run.resume() == {"iteration": 2, "config": {"SEED": 7}}
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(4)))
    assert np.random.get_state()[1].tolist() == list(range(624))
    state = run.trainer.state()
    assert run.trainer.iteration == state["iteration"] == 2
    assert state["optimizer"]["state"][1]["exp_avg"].tolist() == [[0.5] * 3]
    assert run.task.model.label.tolist() == [0.5, -0.5]
    run.trainer.fit(iter([batch(1)]), 3, [])
    run.save(3)
    assert Checkpoints(tmp_path).last()["version"] == 2


def test_this_version_writes_the_parts_of_the_first(tmp_path):
    """The parts by name, so that a change of layout is a decision."""
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    stored = Checkpoints(tmp_path).last()
    assert stored.keys() == version_1().keys() | {"device"}
    assert stored["trainer"].keys() == version_1()["trainer"].keys()
    assert stored["rng"][0].keys() >= version_1()["rng"][0].keys() - {"cuda"}


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"ranks": 2}, "the run had 2 processes, now there are 1: weights, .*not bit for bit"),
        ({"device": "cuda"}, "the run was on cuda, now it is on cpu.*not bit for bit"),
    ],
)
def test_a_resume_on_other_machines_goes_on_and_warns(tmp_path, caplog, change, warning):
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1), batch(2)]), 2, [])
    run.save(2)
    path = tmp_path / "model_0000001.pth"
    stored = torch.load(path, weights_only=True)
    stored["rng"] *= change.pop("ranks", 1)
    save_atomic(stored | change, path)
    other = make_run(tmp_path, seed=5)
    assert other.resume()["iteration"] == 2
    assert re.search(warning, caplog.text)
    for a, b in zip(run.task.model.parameters(), other.task.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resume_on_the_same_machine_does_not_warn(tmp_path, caplog):
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    make_run(tmp_path, seed=5).resume()
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def of_classes(folder, classes, ids=()):
    run = make_run(folder)
    run.task = replace(run.task, class_rows=(ClassRows(name="label"),))
    changes = {"classes": classes, "dataset_ids": ids or [*range(len(classes))]}
    run.about["metadata"] = version_1()["metadata"] | changes
    return run


def test_a_resume_with_other_classes_raises(tmp_path):
    run = of_classes(tmp_path, ["cat", "dog", "horse"])
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    for other in (["horse", "cat", "dog"], ["cat", "dog"], ["cat", "dog", "cow"]):
        listed = re.escape("3 classes, [cat, dog, horse]; DATASETS.TRAIN has")
        with pytest.raises(WeightsError, match=f"{listed} .*{', '.join(other)}.*MODEL.WEIGHTS"):
            of_classes(tmp_path, other).resume()
    assert of_classes(tmp_path, ["Cat", "dog", "horse"], [7, 8, 9]).resume()
    entities = of_classes(tmp_path, ["dog"])
    entities.task = replace(entities.task, makes=("entity",))
    assert entities.resume()
    assert make_run(tmp_path).resume()  # a model without rows of classes


def test_a_resume_with_ids_that_say_another_order_of_one_name_raises(tmp_path):
    run = of_classes(tmp_path, ["part", "part"], [1, 2])
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    with pytest.raises(WeightsError, match=r"2 classes, \[part, part\]"):
        of_classes(tmp_path, ["part", "part"], [2, 3]).resume()
    assert of_classes(tmp_path, ["part", "part"], [1, 2]).resume()
