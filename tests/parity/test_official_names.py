"""Every configuration builds, and its state dict is the official one, name by name."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from mask2former.build import build
from mask2former.weights import to_official, to_ours
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.engine.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    p
    for folder in (
        *("coco", "ade20k", "cityscapes", "mapillary-vistas"),
        *("youtubevis_2019", "youtubevis_2021"),
    )
    for p in (ROOT / "configs" / folder).rglob("*mask*.yaml")
)
ENTRIES = {"R50": 558, "R101": 813, "swin_tiny": 482, "swin_small": 650}
HEAD = 117 + 175  # pixel decoder, predictor


def model_of(path):
    cfg = load_config(path)
    with torch.device("meta"):
        return build_task(cfg, Catalog(ROOT).metadata(cfg.DATASETS.TRAIN[0])).model, cfg


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_names_and_shapes(path):
    model, cfg = model_of(path)
    official = to_official(model.state_dict())
    queries = cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
        sync = cfg.MODEL.RESNETS.NORM == "SyncBN"
        wanted = {50: 265, 101: 520}[cfg.MODEL.RESNETS.DEPTH]
        wanted += {50: 53, 101: 104}[cfg.MODEL.RESNETS.DEPTH] * sync
        assert official["backbone.res2.0.shortcut.norm.running_var"].shape == (256,)
    else:
        wanted = 189 if sum(cfg.MODEL.SWIN.DEPTHS) == 12 else 357
        window, heads = cfg.MODEL.SWIN.WINDOW_SIZE, cfg.MODEL.SWIN.NUM_HEADS[0]
        table = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
        assert official[table].shape == ((2 * window - 1) ** 2, heads)
    assert len(official) == wanted + HEAD + 1
    assert sum(k.startswith("sem_seg_head.pixel_decoder.") for k in official) == 117
    assert sum(k.startswith("sem_seg_head.predictor.") for k in official) == 175
    assert official["sem_seg_head.predictor.query_feat.weight"].shape == (queries, 256)
    classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    assert official["criterion.empty_weight"].shape == (classes + 1,)
    shape = (96, 256)
    name = "sem_seg_head.pixel_decoder.transformer.encoder.layers.5.self_attn.attention_weights"
    assert official[f"{name}.weight"].shape == shape
    assert to_ours(official).keys() == model.state_dict().keys()


def head_names(state):
    return [k for k in state if k.startswith("sem_seg_head.") and ".predictor." not in k]


def plain(state):
    return dict(state)


def static_query(state):
    return {k.replace("query_feat", "static_query"): v for k, v in state.items()}


def before_version_2(state):
    return {k.replace("pixel_decoder.", "", 1): v for k, v in state.items()}


def doubled(state):
    return {
        re.sub(r"^sem_seg_head\.pixel_decoder", "sem_seg_head.pixel_decoder.pixel_decoder", k): v
        for k, v in state.items()
    }


def with_metadata(state):
    ordered = OrderedDict((k, v.numpy()) for k, v in state.items())
    ordered._metadata = OrderedDict(sem_seg_head={"version": 2})
    return ordered


@pytest.mark.parametrize("form", [plain, static_query, before_version_2, doubled, with_metadata])
def test_the_five_forms_that_lose_weights_elsewhere_load_whole(form, root):
    """Specification, section 14: no tensor is left over, none re-initialised."""
    path = root / "configs/tiny/panoptic_tiny.yaml"
    cfg = load_config(path, ["MODEL.BACKBONE.NAME", "build_resnet_backbone"])
    metadata = Catalog(root).metadata("coco_2017_val_panoptic")
    source, goal = (build(cfg, metadata).model for _ in range(2))
    given = form(to_official(source.state_dict()))
    given = {k: torch.as_tensor(v) for k, v in given.items()}
    report = load_weights(goal, given, to_ours)
    assert not report.unused
    assert not report.reinitialised
    for name, value in source.state_dict().items():
        assert torch.equal(goal.state_dict()[name], value), name
