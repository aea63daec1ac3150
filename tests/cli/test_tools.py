"""Tools beside training: what a model costs, the quickstart's files, conversion of weights."""

import importlib
import json
from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
from tiny import make_dataset

from mask2former.weights import to_official
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.weights import read_checkpoint
from segcore.errors import WeightsError
from tools import analyze
from tools.convert_weights import convert, write

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs/tiny/panoptic_tiny.yaml")
CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
CROPS += ["ENTITY.FUSE_ENC_DIM_FEEDFORWARD", "32", "INPUT.MIN_SIZE_TEST", "32"]


def costs(capsys, *opts):
    """The printed title, and the numbers of each part: millions, GFLOP, milliseconds."""
    opts = [*opts, "MODEL.DEVICE", "cpu"]
    analyze.main(Namespace(config_file=CONFIG, size=(128, 160), repeat=1, opts=opts))
    title, *lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in x.split("│")[1:-1]] for x in lines if x.startswith("│")]
    return title.strip(), {name: [float(x or 0) for x in numbers] for name, *numbers in rows}


def test_analyze_counts_every_part(capsys, tmp_path):
    title, parts = costs(capsys, "DATASETS.CATALOGS", f"[{make_dataset(tmp_path)}]")
    assert title == "128x160"
    whole = parts.pop("whole model")
    assert parts.keys() - {"postprocess"} == {"backbone", "pixel_decoder", "decoder"}
    assert sum(p[0] for p in parts.values()) == pytest.approx(whole[0], abs=0.02)
    assert sum(p[1] for p in parts.values()) == pytest.approx(whole[1], abs=0.2)
    assert whole[1] > 0


def test_analyze_gives_cropformer_all_its_views(capsys):
    title, five = costs(capsys, *CROPS)
    assert title == "128x160, 5 views of this size"
    title, one = costs(capsys, *CROPS, "ENTITY.CROP_SAMPLE_NUM_TEST", "0")
    assert title == "128x160"
    assert five["backbone"][1] == pytest.approx(5 * one["backbone"][1], abs=0.3)
    assert sum(five[name][1] for name in ("backbone", "pixel_decoder", "decoder")) == pytest.approx(
        five["whole model"][1], abs=0.2
    )


@pytest.mark.parametrize("flags", [["--repeat", "0"], ["--size", "64", "-1"]])
def test_analyze_wants_positive_numbers(capsys, monkeypatch, flags):
    monkeypatch.setattr("sys.argv", ["analyze.py", "--config-file", CONFIG, *flags])
    with pytest.raises(SystemExit):
        analyze.parse_args()
    assert "is not a whole number from 1" in capsys.readouterr().err


def test_a_second_quickstart_keeps_the_curves(monkeypatch, tmp_path):
    """Lines of training go on where they were; metrics.json has the results."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    quickstart = importlib.import_module("quickstart")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/scenes.yaml").touch()
    numbers = dict.fromkeys(("PQ", "AP", "mIoU"), 50.0)

    def train(out, opts):
        with (out / "metrics.json").open("a") as stream:
            stream.write('{"iteration": 20}\n')
        folder = out / "inference/scenes_val"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(numbers))

    monkeypatch.setattr(quickstart, "train", train)
    monkeypatch.setattr(quickstart, "pictures", lambda out, opts: [out / "pictures/0.png"])
    monkeypatch.setenv("DETECTRON2_DATASETS", "")  # which main sets
    for count in (1, 2, 3):
        quickstart.main(Namespace(output=tmp_path, train=1, val=1, opts=[]))
        assert (tmp_path / "training.jsonl").read_text() == '{"iteration": 20}\n' * count
        assert json.loads((tmp_path / "metrics.json").read_text()) == numbers


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
    found = read_checkpoint(tmp_path / "out.pkl")["model"]["stem.conv1.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, half["conv1.weight"].float())
