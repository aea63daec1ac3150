"""Checkpoints of Hugging Face's Mask2Former: their logits out of our model, from every form."""

import json

import pytest
import torch

from mask2former.build import CLASS_ROWS
from mask2former.decoder import MaskedDecoder
from mask2former.model import Mask2Former
from mask2former.pixel_decoder import PixelDecoder
from mask2former.weights import to_official, to_ours
from segcore.cli.convert import convert
from segcore.engine.checkpoint_reader import read_checkpoint
from segcore.engine.weights import load_weights
from segcore.errors import WeightsError
from segcore.nn.backbones import ResNet
from segcore.nn.swin import Swin

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SWIN = {"embed_dim": 12, "depths": [1, 2, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 7}


def theirs_of(kind):
    """A small random model of transformers; nothing in it is left at zero or one."""
    transformers = pytest.importorskip("transformers")
    backbone = (
        transformers.SwinConfig(out_features=STAGES, **SWIN)
        if kind == "swin"
        else transformers.ResNetConfig(out_features=STAGES)
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=5,
        num_queries=8,
        encoder_layers=2,
        decoder_layers=4,  # with the prediction before the first layer
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        dim_feedforward=64,
        encoder_feedforward_dim=48,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter) * (parameter.dim() == 1)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the statistics of the one batch that follows
            if hasattr(module, "sampling_offsets"):
                for layer in (module.sampling_offsets, module.attention_weights):
                    layer.weight += 0.1 * torch.randn_like(layer.weight)
            if hasattr(module, "relative_position_bias_table"):
                module.relative_position_bias_table.normal_()
        model.train()(torch.randn(2, 3, 64, 64))
    return model.eval()


def ours_of(kind, num_classes=5):
    if kind == "swin":
        swin = {k: tuple(v) if isinstance(v, list) else v for k, v in SWIN.items()}
        backbone = Swin(**swin)
    else:
        backbone = ResNet(50)
    dims = {"dim": 32, "mask_dim": 32, "num_heads": 2}
    return Mask2Former(
        backbone=backbone,
        pixel_decoder=PixelDecoder(backbone.channels, num_layers=2, ffn_dim=48, **dims),
        decoder=MaskedDecoder(
            num_classes=num_classes, num_queries=8, ffn_dim=64, num_layers=3, **dims
        ),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    ).eval()


@torch.no_grad()
def assert_same_logits(theirs, ours):
    """In double precision, so that what differs is no rounding."""
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    expected = theirs.double()(pixel_values=images)
    ours.double()
    layers, _ = ours.decoder(*ours.pixel_decoder(ours.backbone(images)))
    for found, wanted in (
        (layers[-1].logits, expected.class_queries_logits),
        (layers[-1].masks[:, :, 0], expected.masks_queries_logits),
    ):
        assert wanted.std() > 0.1
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["swin", "resnet"])
def test_logits_equal_theirs(kind, tmp_path, caplog):
    """Names in files are those of the published checkpoints; in memory they are newer ones."""
    theirs = theirs_of(kind)
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="200KB")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    ours = ours_of(kind)
    caplog.set_level("WARNING", "segcore")  # another test's program may have asked for more
    report = load_weights(ours, tmp_path / "whole", to_ours, complete=True)
    assert not [n for n in report.unused if not n.endswith("num_batches_tracked")]
    assert not [r for r in caplog.records if r.name.startswith("segcore")]
    wanted = ours.state_dict()
    for source in (
        tmp_path / "whole" / "model.safetensors",
        tmp_path / "parts",
        tmp_path / "parts" / "model.safetensors.index.json",
        tmp_path,  # which holds the .bin
    ):
        given = to_ours(read_checkpoint(source)["model"])
        for name, value in wanted.items():
            if name in given:  # all but what the model computes itself, as the report has said
                assert torch.equal(given[name], value), (source, name)
    named = convert("official", str(tmp_path / "parts"))["model"]
    more = named.keys() - to_official(wanted).keys()
    assert all(name.endswith("num_batches_tracked") for name in more)
    back = to_ours(named)
    assert all(torch.equal(back[n], v) for n, v in wanted.items() if n in back)
    assert {n.split(".")[-1] for n in wanted.keys() - back.keys()} <= {"relative_position_index"}
    assert_same_logits(theirs, ours)


@pytest.mark.slow
def test_other_versions_of_the_names_load_too():
    """Older files, files with the tables' index, models inside another module, other classes."""
    theirs = theirs_of("swin")
    state = theirs.state_dict()
    block = "model.pixel_level_module.encoder.swin.encoder.layers.2.blocks.0.attention."
    index = ours_of("swin").backbone.layers[2].blocks[0].attn.relative_position_index
    old = {
        f"net.{name}"
        .replace("encoder.swin.", "encoder.model.")
        .replace(".hidden_states_norms.stage", ".hidden_states_norms."): value
        for name, value in state.items()
    }  # fmt: skip
    for i in range(1, 5):
        for end in ("weight", "bias"):
            start = "net.model.pixel_level_module.encoder.hidden_states_norms."
            old[f"{start}{i - 1}.{end}"] = state[f"{start[4:]}stage{i}.{end}"]
    old.pop("net.model.pixel_level_module.encoder.hidden_states_norms.4.weight")
    old.pop("net.model.pixel_level_module.encoder.hidden_states_norms.4.bias")
    for given in (old, state | {block + "self.relative_position_index": index}):
        ours = ours_of("swin")
        load_weights(ours, given, to_ours, complete=True)
        assert_same_logits(theirs, ours)
    report = load_weights(ours_of("swin", num_classes=2), state, to_ours, class_rows=CLASS_ROWS)
    assert report.reinitialised == {
        "decoder.class_embed.weight": "5 -> 2 classes",
        "decoder.class_embed.bias": "5 -> 2 classes",
    }


def names_of(**tensors):
    """A state dict that is recognised as theirs."""
    start = "model.pixel_level_module.encoder.embeddings.norm."
    return {f"{start}weight": torch.ones(2), f"{start}bias": torch.ones(2)} | tensors


def test_queries_keys_and_values_become_one_tensor_in_that_order():
    layer = "model.transformer_module.decoder.layers.3.self_attn"
    parts = {f"{layer}.{n}_proj.bias": torch.full((2,), i) for i, n in enumerate("vkq")}
    block = "model.pixel_level_module.encoder.encoder.layers.0.blocks.1.attention.self"
    parts |= {
        f"{block}.{n}.weight": torch.full((1, 2), i)
        for i, n in enumerate(("value", "query", "key"))
    }
    ours = to_ours(names_of(**parts))
    assert ours["decoder.layers.3.self_attn.in_proj_bias"].tolist() == [2, 2, 1, 1, 0, 0]
    assert ours["backbone.layers.0.blocks.1.attn.qkv.weight"].tolist() == [[1, 1], [2, 2], [0, 0]]
    lacking = {k: v for k, v in parts.items() if "k_proj" not in k}
    ours = to_ours(names_of(**lacking))
    assert f"{layer}.q_proj.bias" in ours  # as it was: the report will say that it has no place
    assert "decoder.layers.3.self_attn.in_proj_bias" not in ours


def test_an_index_without_its_files_is_an_error(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    for content, says in (
        ({"weight_map": {"a": "part-1.safetensors"}}, "part-1.safetensors: file not found"),
        ({"weight_map": {"a": "../part-1.safetensors"}}, "expected files beside the index"),
        ({"metadata": {}}, "not an index of weights"),
        ([], "not an index of weights"),
    ):
        index.write_text(json.dumps(content))
        with pytest.raises(WeightsError, match=says):
            read_checkpoint(tmp_path)
    torch.save({"b": torch.ones(1)}, tmp_path / "part-1.bin")
    index.write_text(json.dumps({"weight_map": {"a": "part-1.bin", "b": "part-1.bin"}}))
    with pytest.raises(WeightsError, match=r"1 tensors are in none of its files \(a\)"):
        read_checkpoint(index)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    (tmp_path / "model_final.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"name the file; there are: model_final\.pth"):
        read_checkpoint(tmp_path)
