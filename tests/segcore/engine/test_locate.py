"""What paths of MODEL.WEIGHTS mean: published names, repositories of a hub, and when nothing is."""

import json
import re

import pytest
import torch
from file_server import Behaviour, content, serving, status
from safetensors.torch import save

from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.locate import locate
from segcore.engine.published_weights import address, address_of, group_of, table
from segcore.errors import WeightsError

MODEL = save({"a": torch.arange(3.0)})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one repository, owner/net; {path: content} of it can be changed."""
    files = {"/owner/net/resolve/main/model.safetensors": MODEL}

    def answer(handler):
        data = files.get(handler.path)
        (status(404) if data is None else content(data))(handler)

    behaviour = Behaviour(answer)
    monkeypatch.setenv("SEGCORE_OFFLINE", "")
    monkeypatch.setenv("SEGCORE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving(behaviour) as server:
        monkeypatch.setenv("HF_ENDPOINT", server)
        behaviour.files = files
        yield behaviour


def test_published_names_have_one_address_each():
    names = [name for group in table() for name in group.files]
    assert len(names) == len(set(names))
    for name in names:
        url = address_of(name)
        assert url.startswith("https://")
        group = group_of(url)
        assert name in group.files
        assert address_of(group.files[name]) == url
        if group.digest:
            digest = group.digest_of(url)
            assert digest is None if name == "R-50.pkl" else digest.start in url
    coco = "https://dl.fbaipublicfiles.com/maskformer/mask2former/coco/"
    assert address_of("model_final_94dc52.pkl") == (
        coco + "panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl"
    )
    assert group_of(coco + "a.pkl").licence.startswith("CC BY-NC 4.0")
    assert address_of("model_final.pkl") == ""


def test_the_zoo_lists_every_family_of_models():
    """Counts of the published tables."""
    counts = {group.what: len(set(group.files.values())) for group in table()}
    assert counts["Mask2Former's models for images"] == 47
    assert counts["Mask2Former's models for video"] == 12
    assert counts["CropFormer's models and its Mask2Former, trained on EntitySeg"] == 6


def test_weights_of_configs_are_found(root):
    """Only weights that nobody offers for fetching have to be brought by hand."""
    unknown = set()
    for path in sorted((root / "configs").rglob("*.yaml")):
        for weights in re.findall(r"""\bWEIGHTS: *["']?([\w./:-]+)""", path.read_text()):
            if "://" not in weights and not address_of(weights):
                unknown.add(weights)
    assert unknown == {
        "entityv2_50ep_with_coco_same_epoch_model_final.pth",
        "entityv2_50ep_with_coco_same_epoch_swinlarge_w7_model_final.pth",
        "hornet_l_pretrained.pth",
    }


@pytest.mark.parametrize(
    "path, url",
    [
        ("hf://a/b/c.bin", "https://huggingface.co/a/b/resolve/main/c.bin"),
        ("hf://a/b/d/c.bin@v1", "https://huggingface.co/a/b/resolve/v1/d/c.bin"),
        ("hf://a/b@refs%2Fpr%2F1/c.bin", "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/c.bin"),
        ("hf://datasets/a/b/c.bin", "https://huggingface.co/datasets/a/b/resolve/main/c.bin"),
        ("detectron2://x/y.pkl", "https://dl.fbaipublicfiles.com/detectron2/x/y.pkl"),
    ],
)
def test_addresses(path, url, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert address(path) == url


def test_a_hub_is_asked_once_with_its_token(hub, caplog):
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert read_checkpoint("hf://owner/net/model.safetensors")["model"]["a"].tolist() == [
                0, 1, 2,
            ]  # fmt: skip
    assert len(hub.requests) == 1
    assert hub.requests[0][1]["Authorization"] == "Bearer secret"
    assert caplog.text.count("its licence stands at http://127.0.0.1") == 1
    with pytest.raises(WeightsError, match="no such file"):
        read_checkpoint("hf://owner/net/model.safetensors@v2")
    with pytest.raises(WeightsError, match=r"expected hf://owner/repo/file"):
        read_checkpoint("hf://model.safetensors")


def test_a_namesake_is_not_taken_for_a_hub_s_file(hub, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(save({"b": torch.ones(1)}))
    assert list(read_checkpoint("hf://owner/net/model.safetensors")["model"]) == ["a"]


def test_a_repository_is_its_whole_model(hub):
    hub.files["/owner/net/resolve/v1/pytorch_model.bin"] = hub.files.pop(
        "/owner/net/resolve/main/model.safetensors"
    )
    assert locate("hf://owner/net@v1").name == "pytorch_model.bin"
    asked = len(hub.requests)
    assert locate("hf://owner/net@v1").name == "pytorch_model.bin"
    assert len(hub.requests) == asked
    with pytest.raises(WeightsError, match=r"holds none of model\.safetensors"):
        locate("hf://owner/net")


def test_an_index_brings_its_files(hub):
    start = "/owner/net/resolve/main/"
    parts = {f"part-{i}.safetensors": save({f"t{i}": torch.full((2,), i)}) for i in range(2)}
    hub.files.clear()
    hub.files |= {start + name: data for name, data in parts.items()}
    index = {"weight_map": {f"t{i}": f"part-{i}.safetensors" for i in range(2)}}
    hub.files[start + "model.safetensors.index.json"] = json.dumps(index).encode()
    for path in ("hf://owner/net", "hf://owner/net/model.safetensors.index.json"):
        found = read_checkpoint(path)["model"]
        assert {name: value.tolist() for name, value in found.items()} == {
            "t0": [0, 0], "t1": [1, 1],
        }  # fmt: skip


def test_licences_are_said_when_published_weights_are_fetched(hub, caplog):
    name = "Mask2Former_swin_tiny_3x_3cacfb.pth"
    path = address_of(name).split("/", 3)[3]
    hub.files[f"/{path}"] = b"<html>"
    with caplog.at_level("INFO"), pytest.raises(WeightsError, match="a web page"):
        locate(name)
    assert "licence: CC BY-NC 4.0 (not for commercial use); a gated repository" in caplog.text


def test_offline_only_what_is_there_is_taken(hub, monkeypatch):
    read_checkpoint("hf://owner/net")
    monkeypatch.setenv("SEGCORE_OFFLINE", "1")
    asked = len(hub.requests)
    assert read_checkpoint("hf://owner/net/model.safetensors")
    assert read_checkpoint("hf://owner/net")
    for path in ("hf://owner/other", "hf://owner/net/x.bin", "model_final_94dc52.pkl"):
        with pytest.raises(WeightsError, match=r"SEGCORE_OFFLINE is set; download http.*put it"):
            read_checkpoint(path)
    assert len(hub.requests) == asked


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan"])
def test_a_wrong_timeout_is_an_error(hub, monkeypatch, seconds):
    monkeypatch.setenv("SEGCORE_TIMEOUT", seconds)
    with pytest.raises(WeightsError, match=f"SEGCORE_TIMEOUT {seconds}: expected a number"):
        read_checkpoint("hf://owner/net/model.safetensors")
