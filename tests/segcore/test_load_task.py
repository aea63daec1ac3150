"""From a checkpoint to a task that is ready to look at images."""

from dataclasses import replace

import pytest
import torch
from prepared_models import needs_onednn
from tiny_model import metadata_of, model_of

from mask2former.weights import to_official
from segcore.build import task as task_module
from segcore.build.task import build_for_training, load_for_inference, load_task, prepared
from segcore.config import load_config
from segcore.errors import ConfigError, WeightsError
from segcore.nn.cpu_training import Linear
from segcore.nn.packed import PackedLinear
from segcore.nn.winograd import WinogradConv, has_winograd

NO_DATA = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "[]", "DATASETS.TEST", "[]"]
COCO = ["DATASETS.TRAIN", "[coco_2017_train_panoptic]"]
FIVE = 5


@pytest.fixture(scope="module")
def cfg(root):
    return load_config(root / "configs/tiny/panoptic_tiny.yaml", NO_DATA)


@pytest.fixture(scope="module")
def checkpoint(root):
    metadata = replace(metadata_of(root, FIVE), classes=tuple("abcde"))
    model = model_of(root, classes=FIVE)
    return {"model": to_official(model.state_dict()), "metadata": metadata.to_dict()}


def test_weights_and_classes_come_from_a_file_or_what_was_read_of_it(cfg, checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "model.pth")
    for source in (checkpoint, tmp_path / "model.pth", str(tmp_path / "model.pth")):
        task = load_task(cfg, source)
        assert task.metadata.classes == tuple("abcde")
        assert not task.model.training
        state = to_official(task.model.state_dict())
        assert all(torch.equal(state[name], value) for name, value in checkpoint["model"].items())


def test_the_model_is_on_the_device_that_was_asked_for(cfg, checkpoint):
    assert {p.device.type for p in load_task(cfg, checkpoint).model.parameters()} == {"cpu"}
    task = load_task(cfg, checkpoint, device=torch.device("meta"))
    assert {p.device.type for p in task.model.parameters()} == {"meta"}


def test_weights_of_a_part_raise_and_name_the_file(cfg, checkpoint, tmp_path):
    part = {k: v for k, v in checkpoint["model"].items() if k.startswith("backbone.")}
    torch.save(checkpoint | {"model": part}, tmp_path / "start.pth")
    with pytest.raises(WeightsError, match=r"start\.pth: .*not a trained model; missing"):
        load_task(cfg, tmp_path / "start.pth")


def test_classes_that_nobody_names_raise(cfg, checkpoint):
    with pytest.raises(ConfigError, match="the checkpoint names no classes"):
        load_task(cfg, {"model": checkpoint["model"]})


def test_no_weights_warn(root, caplog):
    load_task(load_config(root / "configs/tiny/panoptic_tiny.yaml", [*NO_DATA, *COCO]), "")
    assert "no weights given" in caplog.text


def packed(task):
    return any(isinstance(m, PackedLinear) for m in task.model.modules())


@needs_onednn
def test_only_what_looks_at_images_on_a_cpu_is_prepared(cfg, checkpoint):
    plain = replace(cfg, TEST=replace(cfg.TEST, PREPARE=False))
    compiled = replace(cfg, MODEL=replace(cfg.MODEL, COMPILE=True))
    assert packed(load_for_inference(cfg, checkpoint))
    assert not packed(load_task(cfg, checkpoint))
    assert not packed(load_for_inference(plain, checkpoint))
    assert not packed(load_for_inference(compiled, checkpoint))
    assert not packed(load_for_inference(cfg, checkpoint, device=torch.device("meta")))


@needs_onednn
@pytest.mark.skipif(not has_winograd(), reason="ops/ is not built, or older")
@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        (True, {}),
        (False, {"WINOGRAD": False}),
        (False, {"PREPARE": False}),
        (False, {"PRECISION": "bf16"}),
    ],
)
def test_winograd_is_for_prepared_models_in_fp32_and_can_be_left_out(
    cfg, checkpoint, caplog, wanted, changes
):
    model = load_for_inference(replace(cfg, TEST=replace(cfg.TEST, **changes)), checkpoint).model
    assert any(isinstance(m, WinogradConv) for m in model.modules()) == wanted
    assert "Winograd" not in caplog.text


@needs_onednn
def test_no_compiled_kernels_warn_and_keep_the_convolutions(cfg, checkpoint, caplog, monkeypatch):
    monkeypatch.setattr("segcore.nn.ms_deform_attn.compiled", None)
    model = load_for_inference(cfg, checkpoint).model
    assert not any(isinstance(m, WinogradConv) for m in model.modules())
    assert [r.message for r in caplog.records] == [
        "3x3 convolutions are direct ones, slower: pip install ./ops"
    ]


def test_a_pytorch_without_the_operators_warns_and_keeps_the_model(cfg, checkpoint, caplog):
    task = load_task(cfg, checkpoint)
    assert prepared(task, lacking="oneDNN") is task and not packed(task)
    assert "plain layers, slower: this PyTorch has no oneDNN" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.filterwarnings("ignore:TF32")
def test_onednn_that_is_switched_off_is_not_used(cfg, checkpoint, root, caplog):
    with torch.backends.mkldnn.flags(enabled=False):
        assert not packed(load_for_inference(cfg, checkpoint))
        model = build_for_training(cfg, metadata_of(root, FIVE)).model
    assert not any(isinstance(module, Linear) for module in model.modules())
    warned = [r.message for r in caplog.records]
    assert len(warned) == 2 and all("mkldnn.enabled is False" in message for message in warned)


def test_an_architecture_that_says_nothing_of_it_keeps_its_model(cfg, checkpoint):
    task = replace(load_task(cfg, checkpoint), prepared=None)
    assert prepared(task, lacking="") is task and not packed(task)


@needs_onednn
@pytest.mark.parametrize(("opts", "fast"), [([], True), (["SOLVER.PREPARE", "false"], False)])
def test_a_model_to_be_trained_on_a_cpu_has_layers_of_its_own(root, opts, fast):
    cfg = load_config(root / "configs/tiny/panoptic_tiny.yaml", [*NO_DATA, *opts])
    model = build_for_training(cfg, metadata_of(root, FIVE)).model
    assert any(type(module) is Linear for module in model.modules()) is fast


@needs_onednn
def test_models_for_a_gpu_or_to_be_compiled_train_plain_layers(cfg, root, monkeypatch):
    for model, device in ((replace(cfg.MODEL, COMPILE=True), "cpu"), (cfg.MODEL, "cuda")):
        monkeypatch.setattr(task_module, "choose_device", lambda name, d=device: torch.device(d))
        made = build_for_training(replace(cfg, MODEL=model), metadata_of(root, FIVE)).model
        assert not any(isinstance(module, Linear) for module in made.modules())
