"""Freezing and rates by name."""

import re

import pytest
import torch
from fake_task import batch, endless, make_fabric, make_task
from torch import nn

from segcore.build.solver import build_optimizer
from segcore.config import load_config
from segcore.contracts import everywhere_one
from segcore.engine.optim import Clipping, poly
from segcore.engine.parameter_rules import (
    freeze,
    frozen_norms,
    layer_factors,
    rate_table,
    rates_by_name,
)
from segcore.engine.trainer import Trainer
from segcore.errors import ConfigError
from segcore.nn.backbones import ResNet
from segcore.nn.hornet import HorNet
from segcore.nn.swin import Swin


def network():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.decoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return model


def learning(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def test_patterns_freeze_what_they_match_and_whole_norms_stand_still():
    model = network()
    freeze(model, ["backbone.*", "decoder.1.weight"])
    assert learning(model) == ["decoder.0.weight", "decoder.0.bias", "decoder.1.bias"]
    assert frozen_norms(model) == [model.backbone[1]]
    freeze(model, [])
    assert len(learning(model)) == 3


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("backbon.*", "backbone.*"), ("decoder.0.wieght", "decoder.0.weight"), ("xyz", "backbone.*")],
)
def test_a_pattern_without_a_match_raises_with_near_names(pattern, near):
    for use in (
        lambda: freeze(network(), [pattern]),
        lambda: rates_by_name(network(), everywhere_one, [(pattern, 0.1)]),
    ):
        with pytest.raises(ConfigError, match=re.escape(near)):
            use()


def test_freezing_everything_raises():
    with pytest.raises(ConfigError, match="nothing is left"):
        freeze(network(), ["*"])


def test_the_last_pattern_that_matches_counts_in_place_of_the_architectures_rate():
    rates = rates_by_name(
        network(),
        lambda name: 0.1 if "backbone" in name else 1.0,
        [("backbone.1.*", 0.5), ("*.bias", 2.0), ("decoder.1.bias", 0)],
    )
    assert rates["backbone.0.weight"] == 0.1
    assert rates["backbone.1.weight"] == 0.5
    assert rates["backbone.1.bias"] == rates["decoder.0.bias"] == 2.0
    assert rates["decoder.1.bias"] == 0
    assert rates["decoder.0.weight"] == 1.0


@pytest.mark.parametrize(
    ("make", "blocks", "stem", "last", "between"),
    [
        (lambda: ResNet(50), 16, "conv1.weight", "layers.3.2.", None),
        (
            lambda: Swin(), 12, "patch_embed.proj.weight", "layers.3.blocks.1.",
            ("layers.0.downsample.reduction.weight", 2),
        ),
        (
            lambda: HorNet(dim=8, sizes=(None,) * 4), 25, "downsample_layers.0.0.weight",
            "stages.3.1.", ("downsample_layers.1.1.weight", 3),
        ),
    ],
)  # fmt: skip
def test_layers_decay_from_the_last_block_to_the_stem(make, blocks, stem, last, between):
    with torch.device("meta"):
        backbone = make()
    names = [f"backbone.{name}" for name, _ in backbone.named_parameters()]
    factors = layer_factors([*names, "decoder.weight"], 0.5)
    assert factors.keys() == set(names)
    assert {f for n, f in factors.items() if n.startswith(f"backbone.{last}")} == {0.5}
    assert factors[f"backbone.{stem}"] == 0.5 ** (blocks + 1)
    assert len(set(factors.values())) == blocks + 1
    if between:
        assert factors[f"backbone.{between[0]}"] == 0.5 ** (blocks + 1 - between[1])
    assert layer_factors(names, 1.0) == {}


def test_a_backbone_without_known_blocks_raises():
    with pytest.raises(ConfigError, match=r"SOLVER\.LAYER_DECAY 0\.5: no blocks"):
        layer_factors(["backbone.0.weight"], 0.5)


def test_the_table_counts_what_learns_and_what_does_not():
    model = network()
    freeze(model, ["backbone.0.*"])
    factors = rates_by_name(model, everywhere_one, [("decoder.*", 0.1)])
    rows = [line.split() for line in rate_table(model, factors, 0.01).splitlines()[1:]]
    assert [row[:3] for row in rows] == [
        ["1.00e-02", "2", "8"],
        ["1.00e-03", "4", "28"],
        ["frozen", "2", "16"],
    ]


def frozen_trainer():
    task = make_task()
    task.model.add_module("norm", nn.BatchNorm2d(3))
    cfg = load_config(None, ["MODEL.FREEZE", "[norm.*, color.bias]",
                             "SOLVER.RATES", "[[label, 0.5]]"])  # fmt: skip
    optimizer, _ = build_optimizer(cfg, task)
    schedule = poly(max_iter=9, power=0.0, ending=0.0, warmup=(0, 1.0, "linear"))
    still = frozen_norms(task.model)
    return Trainer(task, optimizer, schedule, make_fabric(), clipping=Clipping(), still=still)


def test_frozen_parameters_stay_and_the_optimizer_is_resumed():
    trainer = frozen_trainer()
    assert sorted(g["lr"] for g in trainer.optimizer.param_groups) == [5e-5, 1e-4]
    before = {k: v.clone() for k, v in trainer.task.model.state_dict().items()}
    modes = []
    every = [(1, lambda i: modes.append(trainer.task.model.norm.training))]
    trainer.fit(endless(batch(1)), 3, every)
    assert modes == [False, False] and trainer.task.model.training
    after = trainer.task.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"label", "color.weight"}
    other = frozen_trainer()
    other.restore(trainer.state())
    assert other.state()["optimizer"]["state"].keys() == {0, 1}


@pytest.mark.parametrize("value", ["[a]", "[[a]]", "[[a, b]]", "[[a, -1]]", "a"])
def test_rates_that_are_no_pairs_raise(value):
    with pytest.raises(ConfigError, match=r"SOLVER\.RATES"):
        load_config(None, ["SOLVER.RATES", value])
