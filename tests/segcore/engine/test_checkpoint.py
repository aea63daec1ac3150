"""Checkpoints that survive whatever happens while they are written."""

import errno
import random

import numpy as np
import pytest
import torch
from fake_task import batch, make_fabric, make_task

from segcore.engine import checkpoint
from segcore.engine.checkpoint import Checkpoints, restore_rng, rng_state
from segcore.engine.optim import Clipping, poly
from segcore.engine.run import Run
from segcore.engine.save_atomic import save_atomic
from segcore.engine.trainer import Trainer
from segcore.engine.weights import Report
from segcore.errors import WeightsError


def content(value):
    return {"model": {"w": torch.full((3,), float(value))}, "iteration": value}


def draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random(), random.gauss(0, 1)]


def make_run(folder, seed=0):
    task = make_task(seed)
    fabric = make_fabric()
    schedule = poly(max_iter=10, power=0.9, ending=0.0, warmup=(0, 1.0, "linear"))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.1)
    trainer = Trainer(task, optimizer, schedule, fabric, clipping=Clipping())
    about = {"config": {"SEED": 1}, "metadata": {"classes": ["a"]}}
    return Run(task, trainer, fabric, Checkpoints(folder), about)


@pytest.mark.parametrize("normals", [0, 1])  # numpy and python keep every second normal in hand
def test_generators_go_on_where_they_were(tmp_path, normals):
    np.random.randn(normals)
    [random.gauss(0, 1) for _ in range(normals)]
    save_atomic({"model": {}, "rng": rng_state()}, tmp_path / "rng.pth")
    expected = draw(), np.random.randn()
    draw()
    restore_rng(torch.load(tmp_path / "rng.pth", weights_only=True)["rng"])
    assert (draw(), np.random.randn()) == expected


def test_the_last_ones_stay_and_the_pointer_names_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for i in range(5):
        checkpoints.save(content(i), f"model_{i:07d}")
    checkpoints.save(content(9), "model_final")
    names = sorted(p.name for p in tmp_path.iterdir())
    expected = ["last_checkpoint", "model_0000003.pth", "model_0000004.pth", "model_final.pth"]
    assert names == expected
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert checkpoints.last()["iteration"] == 9


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_checkpoint_warns_and_is_passed_over(tmp_path, caplog, length):
    checkpoints = Checkpoints(tmp_path)
    for i in range(3):
        checkpoints.save(content(i), f"model_{i:07d}")
    newest = tmp_path / "model_0000002.pth"
    newest.write_bytes(newest.read_bytes()[:length])
    assert checkpoints.last()["iteration"] == 1
    assert "model_0000002.pth" in caplog.text


def test_the_pointers_file_may_be_gone(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    for i in range(2):
        checkpoints.save(content(i), f"model_{i:07d}")
    (tmp_path / "model_0000001.pth").unlink()
    assert checkpoints.last()["iteration"] == 0
    (tmp_path / "last_checkpoint").unlink()
    assert checkpoints.last()["iteration"] == 0


def test_a_folder_of_damaged_checkpoints_raises(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.last() is None
    checkpoints.save(content(1), "model_0000001")
    (tmp_path / "model_0000001.pth").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"none of model_0000001\.pth can be read"):
        checkpoints.last()


def test_a_new_run_never_meets_the_checkpoints_of_an_earlier_one(tmp_path, caplog):
    old = Checkpoints(tmp_path, keep=2)
    for i in (80, 90):
        old.save(content(i), f"model_{i:07d}")
    old.save(content(99), "model_final")
    for number in (1, 2):
        new = Checkpoints(tmp_path, keep=2)
        new.set_aside()
        for i in range(3):
            new.save(content(i), f"model_{i:07d}")
        assert new.last()["iteration"] == 2
        assert (tmp_path / f"earlier-{number}" / "last_checkpoint").exists()
    assert len(list((tmp_path / "earlier-1").glob("model_*.pth"))) == 3
    assert caplog.text.count("had checkpoints of an earlier run") == 2
    assert "earlier-2" in caplog.text
    Checkpoints(tmp_path / "none").set_aside()  # nothing there, nothing to do


def test_what_was_just_written_stays_and_newer_ones_are_not_taken_up(tmp_path):
    """Whoever copies files about: a pointer names the run that goes on."""
    for i in (80, 90):
        save_atomic(content(i), tmp_path / f"model_{i:07d}.pth")
    checkpoints = Checkpoints(tmp_path, keep=1)
    for i in (1, 2):
        checkpoints.save(content(i), f"model_{i:07d}")
        assert checkpoints.last()["iteration"] == i
    assert not (tmp_path / "model_0000001.pth").exists()
    (tmp_path / "model_0000002.pth").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"none of model_0000002\.pth can be read"):
        checkpoints.last()


def full_disk(monkeypatch, after):
    """Writing fails after so many bytes, as on a disk that fills up."""
    real = torch.save

    def save(value, stream):
        def write(data, left=[after]):  # noqa: B006  counts over calls
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return type(stream).write(stream, data)

        class Filling:
            def __getattr__(self, name):
                return write if name == "write" else getattr(stream, name)

        real(value, Filling())

    monkeypatch.setattr(checkpoint.torch, "save", save)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "model_final.pth"
    save_atomic(content(1), path)
    full_disk(monkeypatch, 300)
    with pytest.raises(OSError, match="free some disk space"):
        save_atomic({"model": {"w": torch.rand(10_000)}}, path)
    assert torch.load(path, weights_only=True)["iteration"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model_final.pth"]


def test_training_goes_on_over_a_full_disk_but_the_end_says_so(tmp_path, monkeypatch, caplog):
    run = make_run(tmp_path)
    full_disk(monkeypatch, 300)
    run.trainer.fit(iter([batch(1)] * 3), 3, [(1, run.save)])
    assert run.trainer.iteration == 3
    assert "training goes on" in caplog.text
    with pytest.raises(OSError, match=r"model_final\.pth: could not be written"):
        run.save_as("model_final")


def test_what_a_killed_save_left_is_swept_up(tmp_path):
    (tmp_path / "model_0000007.pth.tmp").write_bytes(b"half a checkpoint")
    Checkpoints(tmp_path).save(content(1), "model_0000008")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_is_taken_up_with_all_it_had(tmp_path):
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1), batch(2)]), 2, [])
    run.save(2)
    expected = torch.rand(4)
    stored = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    assert stored["iteration"] == 2
    assert stored["metadata"] == {"classes": ["a"]}
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
    Checkpoints(tmp_path).save(content(1), "model_final")
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


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    save_atomic({"a": 1}, path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="free some disk space"):
        save_atomic({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


def test_a_damaged_last_checkpoint_is_passed_over(tmp_path):
    runs = Checkpoints(tmp_path, keep=2)
    for i in range(4):
        runs.save({"model": {"x": torch.tensor(i)}}, f"model_{i:07d}")
    assert [p.name for p in runs.numbered()] == ["model_0000002.pth", "model_0000003.pth"]
    whole = (tmp_path / "model_0000003.pth").read_bytes()
    (tmp_path / "model_0000003.pth").write_bytes(whole[: len(whole) // 2])
    assert runs.last()["model"]["x"] == 2


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


def test_a_resume_takes_up_what_this_version_writes(tmp_path):
    """The parts by name, so that a change of layout is a decision."""
    run = make_run(tmp_path)
    run.trainer.fit(iter([batch(1)]), 1, [])
    run.save(1)
    stored = Checkpoints(tmp_path).last()
    assert stored.keys() == version_1().keys()
    assert stored["trainer"].keys() == version_1()["trainer"].keys()
    assert stored["rng"][0].keys() >= version_1()["rng"][0].keys() - {"cuda"}
