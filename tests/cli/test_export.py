"""`segcore export`: what it refuses, and a file as weights."""

import sys

import pytest

from segcore.cli import export
from segcore.cli.main import main as program
from segcore.errors import ConfigError, DataError

CONFIG = ["tiny/semantic_tiny.yaml", "DATASETS.TRAIN", "[coco_2017_val_panoptic]"]
CONFIG += ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]


def run(to, output, config=CONFIG, **given):
    defaults = {"size": (64, 96), "kind": "uint8", "post": False, "custom": False, "int8": None}
    given = defaults | {"int8_images": 5} | given
    return export.main(config_file=config[0], opts=config[1:], to=to, output=output, **given)


@pytest.mark.parametrize(
    "to, given, problem",
    [
        ("torchscript", {"size": None}, "--size H W"),
        ("onnx", {"custom": True}, "only torch has our operator"),
        ("torch-export", {"int8": "."}, "ONNX and OpenVINO"),
        ("onnx", {"size": (64, 100)}, "multiples of 32"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, to, given, problem):
    suffix = {"torchscript": ".ts", "onnx": ".onnx", "torch-export": ".pt2"}[to]
    with pytest.raises(ConfigError, match=problem):
        run(to, tmp_path / f"model{suffix}", **given)


@pytest.mark.parametrize(
    "config, data, reason",
    [
        ("tiny/detector_tiny.yaml", "coco_2017_val", "non-maximum suppression"),
        ("tiny/video_tiny.yaml", "ytvis_2019_train", "model for clips"),
    ],
)
def test_a_model_that_cannot_says_why(tmp_path, config, data, reason):
    config = [config, "DATASETS.TRAIN", f"[{data}]", *CONFIG[3:]]
    with pytest.raises(ConfigError, match=f"cannot be exported.*{reason}|{reason}.*cannot"):
        run("onnx", tmp_path / "model.onnx", config=config)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.bin.*ends with \.onnx"):
        run("onnx", tmp_path / "model.bin")


@pytest.mark.slow
def test_int8_without_images_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--int8 .*empty: no image"):
        run("onnx", tmp_path / "model.onnx", int8=str(tmp_path / "empty"))


@pytest.mark.parametrize(
    "to, package", [("onnx", "onnxscript"), ("openvino", "onnx"), ("openvino", "openvino")]
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package} is not installed.*segcore\[export\]"):
        run(to, tmp_path / f"model{export.SUFFIXES[to]}")
    assert not list(tmp_path.iterdir())


def test_int8_without_nncf_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match=r"NNCF.*segcore\[export,int8\]"):
        run("onnx", tmp_path / "model.onnx", int8=str(tmp_path))


@pytest.mark.parametrize("sizes", [[], ["--dynamic", "--size", "64", "96"]])
def test_one_of_two_kinds_of_sizes_is_wanted(capsys, sizes):
    with pytest.raises(SystemExit) as end:
        program(["export", "--to", "onnx", *sizes, *CONFIG])
    assert end.value.code == 2
    assert "--size H W, for every model, or --dynamic" in capsys.readouterr().err
