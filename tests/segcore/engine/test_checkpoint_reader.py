"""Files of every form and damage: read without executing, or refused with one clear error."""

import argparse
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.errors import WeightsError

STATE = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4), "h": torch.ones(2).half()}


def same(found):
    assert found.keys() == STATE.keys()
    for name, value in STATE.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", ["tensors", "parameters", "arrays"])
def test_plain_pickles(tmp_path, form, protocol):
    """As the old converters wrote them: Swin's with tensors, torchvision's with arrays."""
    change = {"tensors": lambda v: v, "arrays": lambda v: v.numpy()}.get(
        form, lambda v: torch.nn.Parameter(v, requires_grad=v.is_floating_point())
    )
    state = OrderedDict((k, change(v)) for k, v in STATE.items())
    state._metadata = OrderedDict(head={"version": 2})
    content = {"model": state, "__author__": "third_party", "matching_heuristics": True}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    found = read_checkpoint(tmp_path / "a.pkl")
    same(found["model"])
    assert not any(v.requires_grad for v in found["model"].values())
    assert found["__author__"] == "third_party"


def test_arrays_pickled_under_numpy_1(tmp_path):
    text = pickle.dumps({"model": {k: v.numpy() for k, v in STATE.items()}}, 2)
    old = text.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != text
    (tmp_path / "a.pkl").write_bytes(old)
    same(read_checkpoint(tmp_path / "a.pkl")["model"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_torch_files(tmp_path, zipped, key):
    content = STATE if key is None else {key: STATE, "args": argparse.Namespace(lr=0.1)}
    content = content if key is None else content | {"best": np.float64(3.5)}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "a.pth")
    same(found["model"])
    if key:
        assert found["args"].lr == 0.1
        assert found["best"] == 3.5


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    same(read_checkpoint(tmp_path / "a.safetensors")["model"])


class Runs:
    """Pickled, it calls what it was given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_the_refusal_names_what_was_wanted_and_nothing_ran(tmp_path):
    victim = tmp_path / "made"
    for name, save in (("a.pkl", pickle.dump), ("a.pth", torch.save)):
        with (tmp_path / name).open("wb") as stream:
            save({"model": {"x": Runs(os.mkdir, str(victim))}}, stream)
        with pytest.raises(WeightsError, match=r"posix\.mkdir.*not executed"):
            read_checkpoint(tmp_path / name)
    inner = pickle.dumps({"x": Runs(os.mkdir, str(victim))}, 2)
    hidden = Runs(torch.storage._load_from_bytes, inner)  # code inside a tensor's bytes
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"model": {"x": hidden}}))
    with pytest.raises(WeightsError, match="not executed"):
        read_checkpoint(tmp_path / "b.pkl")
    assert not victim.exists()


def test_arrays_of_objects_are_refused(tmp_path):
    content = {"model": {"x": np.array([{"a": 1}], dtype=object)}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(WeightsError, match="'O8' are no weights"):
        read_checkpoint(tmp_path / "a.pkl")


def test_any_damage_is_one_kind_of_error(tmp_path):
    """Cut anywhere, or with a byte changed: WeightsError that names the file, or readable."""
    rng = np.random.default_rng(0)
    files = {"a.pkl": pickle.dumps({"model": {k: v.numpy() for k, v in STATE.items()}}, 4)}
    files["t.pkl"] = pickle.dumps({"model": STATE}, 2)
    for name, zipped in (("a.pth", True), ("b.pth", False)):
        torch.save({"model": STATE}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        files[name] = (tmp_path / name).read_bytes()
    save_file(STATE, tmp_path / "a.safetensors")
    files["a.safetensors"] = (tmp_path / "a.safetensors").read_bytes()
    refused = 0
    for name, whole in files.items():
        path = tmp_path / name
        for _ in range(60):
            at = int(rng.integers(len(whole)))
            for damaged in (
                whole[:at],
                whole[:at] + bytes([int(rng.integers(256))]) + whole[at + 1 :],
            ):
                path.write_bytes(damaged)
                try:
                    read_checkpoint(path)
                except WeightsError as error:
                    refused += 1
                    assert name in str(error)
    assert refused > 300


@pytest.mark.parametrize(
    "content, says",
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"", "0 bytes"),
        (pickle.dumps([1]), "no dictionary"),
    ],
)
def test_what_the_file_is_instead(tmp_path, content, says):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(WeightsError, match=f"a.pkl: not a checkpoint.*{says}.*download"):
        read_checkpoint(tmp_path / "a.pkl")


def test_addresses_are_looked_for_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCORE_WEIGHTS", str(tmp_path / "cache"))
    address = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    full = "dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/torchvision/R-50.pkl"
    for path in (address, "R-50.pkl"):
        with pytest.raises(WeightsError, match="SEGCORE_OFFLINE is set") as caught:
            read_checkpoint(path)
        assert f"https://{full}" in str(caught.value)
        assert str(tmp_path / "cache" / full) in str(caught.value)
    with pytest.raises(WeightsError, match=r"file not found.*segcore convert-weights"):
        read_checkpoint("R-49.pkl")
    (tmp_path / "cache" / full).parent.mkdir(parents=True)
    (tmp_path / "cache" / full).write_bytes(pickle.dumps({"model": STATE}))
    for path in (address, "R-50.pkl"):
        same(read_checkpoint(path)["model"])
    (tmp_path / "cache" / full).unlink()
    goal = tmp_path / "cache" / "R-50.pkl"
    goal.write_bytes(pickle.dumps({"model": STATE}))
    for path in (address, "https://example.org/x/R-50.pkl?download=1", "R-50.pkl"):
        same(read_checkpoint(path)["model"])
    same(read_checkpoint(f"{goal}?matching_heuristics=True")["model"])
    same(read_checkpoint(f"file://{goal}")["model"])
    for name in ("no_such_package", "no_such.package", "os.path.no"):
        with pytest.raises(WeightsError, match=f"pip install {name.replace('_', '-')}"):
            read_checkpoint(f"package://{name}")


def test_a_mistyped_path_is_not_found_elsewhere(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SEGCORE_WEIGHTS", str(tmp_path))
    torch.save({"model": STATE}, tmp_path / "model_final.pth")
    with pytest.raises(WeightsError, match=r"outptu/model_final\.pth: file not found; MODEL"):
        read_checkpoint("outptu/model_final.pth")
    with caplog.at_level("INFO"):
        read_checkpoint("model_final.pth")
    assert f"{tmp_path}/model_final.pth is taken" in caplog.text
