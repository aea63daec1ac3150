"""Conversion of weights."""

import pickle
import pickletools
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from tiny_model import model_of

from mask2former.weights import to_official, to_ours
from segcore.build.data import known_classes
from segcore.build.task import build_task
from segcore.cli.convert import check_written, convert, main, write
from segcore.config import load_config, to_dict
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.weights import load_weights, read_checkpoint
from segcore.errors import WeightsError
from segcore.structures import Metadata


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small state dict of each kind."""
    folder = tmp_path_factory.mktemp("weights")
    swin = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
    names = ["decoder.query_feat.weight", "decoder.class_embed.bias", "backbone.conv1.weight"]
    ours = {name: torch.ones(3) for name in names}
    states = {
        "resnet": timm.create_model("resnet18").state_dict(),
        "timm swin": swin,
        "swin": {timm_swin_name(name): value for name, value in swin.items()},
        "ours": ours,
        "official": to_official(ours),
    }
    for name, state in states.items():
        torch.save({"model": state}, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        ("swin", ["swin"], ["resnet", "timm swin", "ours", "official"]),
        ("torchvision", ["resnet"], ["swin", "ours", "official"]),
        ("timm", ["resnet", "timm swin"], ["ours", "official"]),
        ("official", ["ours", "official"], ["resnet", "swin"]),
    ],
)
def test_weights_of_another_kind_are_not_converted(files, kind, good, wrong):
    for name in good:
        assert convert(kind, files / f"{name}.pth")["model"]
    for name in wrong:
        with pytest.raises(WeightsError, match=f"{name}.pth: .*; .*say "):
            convert(kind, files / f"{name}.pth")


def test_bfloat16_becomes_float32_where_numpy_lacks_it(files, tmp_path):
    state = read_checkpoint(files / "resnet.pth")["model"]
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    torch.save(half, tmp_path / "half.pth")
    write(convert("torchvision", tmp_path / "half.pth"), tmp_path / "out.pkl")
    weight = read_checkpoint(tmp_path / "out.pkl")["model"]["stem.conv1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, half["conv1.weight"].float())


def test_conversion_to_official_and_back(root, tmp_path):
    model = model_of(root, "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    official = to_official(model.state_dict())
    torch.save({"model": official}, tmp_path / "trained.pth")
    for goal in ("old.pkl", "old.pth"):
        write(convert("official", tmp_path / "trained.pth"), tmp_path / goal)
        back = read_checkpoint(tmp_path / goal)["model"]
        assert back.keys() == official.keys()
        assert all(torch.equal(v, official[k]) for k, v in back.items())
    plain = (tmp_path / "old.pkl").read_bytes()
    content = pickle.loads(plain, encoding="latin1")  # as detectron2 reads it
    assert content["__author__"]
    assert "matching_heuristics" not in content
    assert content["model"]._metadata["sem_seg_head"] == {"version": 2}
    assert all(type(v) is np.ndarray and v.flags.writeable for v in content["model"].values())
    assert not [x for _, x, _ in pickletools.genops(plain) if x and "_core" in str(x)[:40]]
    with pytest.raises(WeightsError, match="no class head"):
        torch.save({"a": torch.ones(1)}, tmp_path / "bare.pth")
        convert("official", tmp_path / "bare.pth")


@pytest.mark.parametrize("classes", [133, 1])
def test_a_start_for_entities(root, tmp_path, classes):
    """As the old convert_pretrain_cocoentity: prefixes once, the rest of the network kept."""
    resnet = ["MODEL.BACKBONE.NAME", "build_resnet_backbone"]
    official = to_official(model_of(root, *resnet, classes=classes).state_dict())
    twice = {k.replace("pixel_decoder.", "pixel_decoder.pixel_decoder.", 1): v
             for k, v in official.items()}  # fmt: skip
    torch.save({"model": twice}, tmp_path / "coco.pth")
    start = convert("entity", tmp_path / "coco.pth")["model"]
    dropped = official.keys() - start.keys()
    head = {f"sem_seg_head.predictor.class_embed.{k}" for k in ("weight", "bias")}
    assert dropped == (head | {"criterion.empty_weight"} if classes > 1 else set())
    assert all(torch.equal(v, official[k]) for k, v in start.items())


def test_converter_from_the_command_line(root, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"<html>")
    command = [sys.executable, str(root / "tools/convert_weights.py"), "swin"]
    command += [str(tmp_path / "bad.pth"), str(tmp_path / "out.pkl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "a web page" in done.stderr
    assert not (tmp_path / "out.pkl").exists()


def test_imagenet_resnet_is_converted_to_the_old_names(root, tmp_path):
    model = model_of(root, "MODEL.BACKBONE.NAME", "build_resnet_backbone")
    state = timm.create_model("resnet50").state_dict()  # torchvision's names
    torch.save(state, tmp_path / "in.pth")
    for kind in ("torchvision", "timm"):
        write(convert(kind, tmp_path / "in.pth"), tmp_path / "R-50.pkl")
        content = read_checkpoint(tmp_path / "R-50.pkl")
        assert content["matching_heuristics"]
        wanted = {k for k in to_official(model.state_dict()) if k.startswith("backbone.")}
        assert {k.removeprefix("backbone.") for k in wanted} <= content["model"].keys()
        report = load_weights(model, content, to_ours)
        assert not [n for n in report.reinitialised if n.startswith("backbone.")]
        assert {n for n in report.unused if "num_batches" not in n} == {
            "stem.fc.weight", "stem.fc.bias",
        }  # fmt: skip
    assert torch.equal(model.backbone.layers[2][5].conv3.weight, state["layer3.5.conv3.weight"])


def trained(tmp_path, config, *opts):
    """A checkpoint as `segcore train` leaves it: config, classes, official names, a trainer."""
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *opts])
    classes = Metadata("x", ("a", "b"), (1, 2), (True, True), ((0, 0, 0), (1, 1, 1)))
    task = build_task(cfg, known_classes(cfg) or classes)
    content = {"model": task.official(task.model.state_dict()), "config": to_dict(cfg)}
    content |= {"metadata": task.metadata.to_dict(), "trainer": {"step": torch.ones(1)}}
    torch.save(content, tmp_path / "model_final.pth")
    return task, content["model"]


CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32"]


@pytest.mark.parametrize(
    ("config", "opts"),
    [
        ("tiny/panoptic_tiny.yaml", []),
        ("tiny/panoptic_tiny.yaml", CROPS),
        ("tiny/detector_tiny.yaml", []),
        ("tiny/detector_tiny.yaml", ["MODEL.ROI_MASK_HEAD.NAME", "RefineMaskHead"]),
        ("small/bpr_hrnet18s.yaml", []),
    ],
)
def test_models_of_every_architecture_convert_and_load(tmp_path, capsys, config, opts):
    task, official = trained(tmp_path, config, *opts)
    goal = tmp_path / "official.pkl"
    named = {"kind": "official", "source": tmp_path / "model_final.pth", "goal": goal}
    assert main(**named, config_file=None) == 0
    said = capsys.readouterr().out
    assert f"{len(official)} tensors, loaded into {type(task.model).__name__} and equal" in said
    back = read_checkpoint(goal)["model"]
    assert back.keys() == official.keys()
    assert all(torch.equal(v, official[k].float().to(v)) for k, v in back.items())


def test_weights_of_a_strangers_file_are_loaded_into_the_config_that_is_named(root, tmp_path):
    _, official = trained(tmp_path, "tiny/panoptic_tiny.yaml")
    wrapped = {f"model.{name}": value for name, value in official.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "theirs.pth")
    named = {"kind": "official", "source": tmp_path / "theirs.pth", "goal": tmp_path / "a.pth"}
    assert main(**named, config_file=None) == 0  # by its names
    assert read_checkpoint(tmp_path / "a.pth")["model"].keys() == official.keys()
    (tmp_path / "own.yaml").write_text(
        f"_BASE_: {root}/configs/tiny/panoptic_tiny.yaml\n"
        "MODEL: {MASK_FORMER: {NUM_OBJECT_QUERIES: 8, DIM_FEEDFORWARD: 64}}\n"
        "DATASETS: {TRAIN: [coco_2017_train]}\n"
    )
    with pytest.raises(WeightsError, match=r"theirs.pth: .*the checkpoint has .*the model"):
        main(**named, config_file=str(tmp_path / "own.yaml"))


def test_what_cannot_be_loaded_again_raises(tmp_path):
    state = {"a": torch.ones(2), "b": torch.zeros(2)}
    torch.save({"model": state | {"b": torch.ones(2)}}, tmp_path / "out.pth")
    with pytest.raises(WeightsError, match=r"out.pth: 1 tensors are not there .*\(b\)"):
        check_written(tmp_path / "out.pth", {"model": state}, None)
    swin = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
    ours = convert_names(swin)
    assert check_written_as(tmp_path, ours) == "loaded into Swin"
    del ours["layers.2.blocks.3.mlp.fc1.weight"]
    with pytest.raises(WeightsError, match=r"1 tensors are not there .*mlp.fc1.weight"):
        check_written_as(tmp_path, ours)


def convert_names(swin):
    return {timm_swin_name(name): value for name, value in swin.items()}


def check_written_as(folder, state):
    torch.save({"model": state}, folder / "s.pth")
    return check_written(folder / "s.pth", {"model": state}, None)
