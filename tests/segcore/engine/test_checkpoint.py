"""Checkpoints that survive whatever happens while they are written."""

import random

import numpy as np
import pytest
import torch
from filling_disk import full_disk

from segcore.engine.checkpoint import Checkpoints, restore_rng, rng_state
from segcore.engine.save_atomic import save_atomic
from segcore.errors import WeightsError


def content(value):
    return {"model": {"w": torch.full((3,), float(value))}, "iteration": value}


def draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random(), random.gauss(0, 1)]


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


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "model_final.pth"
    save_atomic(content(1), path)
    full_disk(monkeypatch, 300)
    with pytest.raises(OSError, match="free some disk space"):
        save_atomic({"model": {"w": torch.rand(10_000)}}, path)
    assert torch.load(path, weights_only=True)["iteration"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model_final.pth"]


def test_what_a_killed_save_left_is_swept_up(tmp_path):
    (tmp_path / "model_0000007.pth.tmp").write_bytes(b"half a checkpoint")
    Checkpoints(tmp_path).save(content(1), "model_0000008")
    assert not list(tmp_path.glob("*.tmp"))


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
