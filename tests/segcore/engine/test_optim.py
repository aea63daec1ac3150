"""Groups and schedules as published (specification 8.3, 8.4)."""

from collections import Counter

import pytest
import torch
from torch import nn

from mask2former.build import build_pixel_decoder
from mask2former.decoder import MaskedDecoder
from mask2former.model import Mask2Former
from segcore.build.backbone import build_backbone
from segcore.config import load_config
from segcore.contracts import everywhere_one
from segcore.engine.optim import Decay, make_optimizer, multistep, parameter_groups, poly
from segcore.errors import ConfigError

SWIN = "configs/coco/panoptic-segmentation/swin/maskformer2_swin_tiny_bs16_50ep.yaml"
NONE = (0, 1.0, "linear")


def slow_backbone(name: str) -> float:
    return 0.1 if "backbone" in name else 1.0


def test_swin_tiny_has_the_published_groups(root):
    cfg = load_config(root / SWIN)
    with torch.device("meta"):
        backbone = build_backbone(cfg)
        model = Mask2Former(
            backbone=backbone,
            pixel_decoder=build_pixel_decoder(cfg, backbone),
            decoder=MaskedDecoder(num_classes=133),
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )
    groups = parameter_groups(model, 1e-4, slow_backbone, Decay())
    found = {(round(g["lr"], 9), g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(1e-4, 0.05): 199, (1e-5, 0.05): 101, (1e-4, 0.0): 93, (1e-5, 0.0): 76}
    ids = Counter(id(p) for g in groups for p in g["params"])
    assert set(ids.values()) == {1}
    assert len(ids) == sum(p.requires_grad for p in model.parameters())


def test_what_decays():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.query = nn.Embedding(5, 4)
    model.level_embed = nn.Parameter(torch.zeros(3, 4))
    model.norm = nn.LayerNorm(4)
    model.frozen = nn.Linear(2, 2).requires_grad_(False)
    groups = parameter_groups(model, 1.0, slow_backbone, Decay(0.5, 0.25, 0.125))
    name = {id(p): n for n, p in model.named_parameters()}
    found = {name[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found == {
        "backbone.0.weight": (0.1, 0.5),
        "backbone.0.bias": (0.1, 0.5),  # biases decay
        "backbone.1.weight": (0.1, 0.25),
        "backbone.1.bias": (0.1, 0.25),
        "query.weight": (1.0, 0.125),
        "level_embed": (1.0, 0.5),  # a bare parameter, as the pixel decoder's
        "norm.weight": (1.0, 0.25),
        "norm.bias": (1.0, 0.25),
    }


def test_shared_parameters_are_counted_once():
    model = nn.Module()
    model.one = nn.Linear(2, 2)
    model.two = nn.Linear(2, 2)
    model.two.weight = model.one.weight
    groups = parameter_groups(model, 1.0, everywhere_one, Decay())
    assert sum(len(g["params"]) for g in groups) == 3


@pytest.mark.parametrize("name", ["ADAMW", "SGD"])
def test_fused_and_plain_optimizers_agree(name):
    results = []
    for fused in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(8, 8)
        groups = [{"params": list(layer.parameters()), "lr": 0.1, "weight_decay": 0.05}]
        optimizer = make_optimizer(name, groups, 0.9, fused)
        for _ in range(3):
            layer(torch.ones(2, 8)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append(layer.weight.detach())
    torch.testing.assert_close(*results)


def test_unknown_names_raise():
    with pytest.raises(ConfigError, match="ADAMW or SGD"):
        make_optimizer("ADAM", [], 0.9)
    odd = multistep(steps=[], gamma=0.1, warmup=(5, 0.1, "cosine"))
    with pytest.raises(ConfigError, match="linear or constant"):
        odd(0)


def test_poly_equals_the_published_curve():
    rate = poly(max_iter=90_000, power=0.9, ending=0.0, warmup=NONE)
    for it in (0, 1, 45_000, 89_999):
        assert rate(it) == pytest.approx((1 - it / 90_000) ** 0.9)
    assert rate(90_000) == 0
    assert rate(90_001) == 0  # a run that was made longer does not go complex
    lowest = poly(max_iter=100, power=2.0, ending=0.0, lowest=0.2, warmup=NONE)
    assert [lowest(i) for i in (0, 50, 100)] == pytest.approx([1.0, 0.4, 0.2])
    ending = poly(max_iter=100, power=1.0, ending=0.3, warmup=NONE)
    assert ending(60) == pytest.approx(0.4)
    assert ending(80) == 0.3


def test_multistep_drops_at_its_steps():
    rate = multistep(steps=[327_778, 355_092], gamma=0.1, warmup=(10, 1.0, "linear"))
    expected = {0: 1, 9: 1, 327_777: 1, 327_778: 0.1, 355_091: 0.1, 355_092: 0.01, 368_749: 0.01}
    assert {it: rate(it) for it in expected} == pytest.approx(expected)


def test_warmup_is_linear_or_constant():
    linear = multistep(steps=[], gamma=0.1, warmup=(10, 0.1, "linear"))
    assert [linear(i) for i in (0, 5, 10, 11)] == pytest.approx([0.1, 0.55, 1, 1])
    constant = multistep(steps=[], gamma=0.1, warmup=(10, 0.1, "constant"))
    assert [constant(i) for i in (0, 9, 10)] == pytest.approx([0.1, 0.1, 1])
