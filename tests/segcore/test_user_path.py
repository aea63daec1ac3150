"""Paths as people write them, wherever one may stand."""

from pathlib import Path

import pytest
import torch

from segcore.config import load_config
from segcore.data.images import read_image
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.errors import DataError
from segcore.user_path import user_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_sign_of_home_is_home(home):
    assert user_path("~/a/b") == home / "a/b"
    assert user_path("a/~/b") == Path("a/~/b")
    assert user_path("~nobody-is-called-so.png") == Path("~nobody-is-called-so.png")


def test_weights_configs_and_images_below_home(home, monkeypatch):
    torch.save({"a": torch.ones(2)}, home / "w.pth")
    for name in ("~/w.pth", "file://~/w.pth"):
        assert read_checkpoint(name)["model"].keys() == {"a"}
    monkeypatch.setenv("SEGCORE_WEIGHTS", "~")
    assert read_checkpoint("w.pth")["model"].keys() == {"a"}
    (home / "base.yaml").write_text("SOLVER: {MAX_ITER: 7}\n")
    (home / "own.yaml").write_text("_BASE_: ~/base.yaml\n")
    assert load_config("~/own.yaml").SOLVER.MAX_ITER == 7
    with pytest.raises(DataError, match=f"^{home}/no.png: image not found"):
        read_image("~/no.png")
