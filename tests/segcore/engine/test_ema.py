"""The average of weights: its rule, its steps, and what checkpoints hold of it."""

import pytest
import torch
from fake_task import batch, endless, make_task, make_trainer
from lightning_fabric import Fabric
from test_run import make_run
from torch import nn
from two_ranks import run_ranks

from segcore.engine.best import Best
from segcore.engine.ema import Ema
from segcore.engine.precision import LeanMixedPrecision
from segcore.engine.weights import load_into_task


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def training(model, decay):
    """Three steps; the states after each, and the average."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ema = Ema(model, optimizer, decay)
    ema.begin()
    states = [state_of(model)]
    for number in range(3):
        optimizer.zero_grad()
        model(torch.full((4, 2), float(number))).square().sum().backward()
        optimizer.step()
        states.append(state_of(model))
    return states, ema


def test_the_average_is_that_of_the_rule_over_parameters_and_buffers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    states, ema = training(model, decay=0.15)
    expected = dict(states[0])
    for decay, state in zip((0.1, 0.15, 0.15), states[1:], strict=True):  # 1/10, 2/11 > .15
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    averaged = ema.state_dict()
    assert averaged.pop("1.num_batches_tracked") == 3  # a number of steps, as the model has it
    for name, value in averaged.items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.equal(expected["1.running_mean"], states[-1]["1.running_mean"])


def test_averages_are_in_the_model_inside_and_its_weights_after_even_over_an_error():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    model.append(model[1])  # two names of one tensor
    states, ema = training(model, decay=0.9)
    averaged = {name: value.clone() for name, value in ema.state_dict().items()}
    for _ in range(2):
        with pytest.raises(KeyError), ema.applied():
            assert_equal(state_of(model), averaged)
            raise KeyError
        assert_equal(state_of(model), states[-1])
        assert_equal(ema.state_dict(), averaged)


def test_frozen_parameters_are_not_held_twice():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    _, ema = training(model, decay=0.9)
    held = ema.state_dict()
    assert held["0.weight"].data_ptr() == model[0].weight.data_ptr()
    assert held["1.weight"].data_ptr() != model[1].weight.data_ptr()


def make_ema_run(folder, seed=0, decay=0.9):
    run = make_run(folder, seed)
    run.trainer.ema = Ema(run.task.model, run.trainer.optimizer.optimizer, decay)
    return run


def test_an_accumulated_step_is_one_update():
    trainer = make_trainer(accumulate=2)
    trainer.ema = Ema(trainer.task.model, trainer.optimizer.optimizer, 0.9)
    trainer.fit(endless(batch(1)), 3, [])
    assert trainer.ema.updates == 3


def test_a_skipped_step_of_fp16_averages_nothing():
    """The scaler skips a step whose gradients overflow; its numbers are no weights."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    plugin = LeanMixedPrecision("16-mixed", "cpu", scaler=scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    fabric.launch()
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ema = Ema(model, optimizer, 0.9)
    ema.begin()
    wrapped, stepped = fabric.setup(model, optimizer)
    updates = []
    for factor in (1.0, float("inf"), 1.0):
        before = {name: value.clone() for name, value in ema.state_dict().items()}
        fabric.backward(wrapped(torch.ones(3, 2)).sum() * factor)
        stepped.step()
        stepped.zero_grad()
        updates.append(ema.updates)
        if factor != 1.0:
            assert_equal(ema.state_dict(), before)
    assert updates == [1, 1, 2]
    assert all(torch.isfinite(value).all() for value in ema.state_dict().values())


def test_a_resumed_average_equals_an_unbroken_one(tmp_path):
    batches = [batch(n, n + 1) for n in range(6)]
    whole = make_ema_run(tmp_path / "whole")
    whole.trainer.fit(iter(batches), 6, [])
    first = make_ema_run(tmp_path / "broken")
    first.trainer.fit(iter(batches[:3]), 3, [])
    first.save(3)
    second = make_ema_run(tmp_path / "broken", seed=7)
    second.resume()
    second.trainer.fit(iter(batches[3:]), 6, [])
    for run in (whole, second):
        run.save_as("model_final")
    assert whole.trainer.ema.updates == second.trainer.ema.updates == 6
    one, other = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        for name in ("whole", "broken")
    )
    assert_equal(one["model_ema"], other["model_ema"])
    assert_equal(one["model"], other["model"])
    assert not torch.equal(one["model"]["label"], one["model_ema"]["label"])


def test_a_checkpoint_is_used_by_its_average_and_resumed_by_its_weights(tmp_path, caplog):
    run = make_ema_run(tmp_path)
    run.trainer.fit(endless(batch(1)), 3, [])
    run.save_as("model_final")
    task = make_task(seed=9)
    load_into_task(task, tmp_path / "model_final.pth", complete=True)
    assert_equal(state_of(task.model), run.trainer.ema.state_dict())
    without = make_run(tmp_path, seed=5)
    without.resume()
    assert_equal(state_of(without.task.model), state_of(run.task.model))
    assert "averaged weights are dropped" in caplog.text
    without.save_as("model_final")
    late = make_ema_run(tmp_path, seed=6)
    late.resume()
    assert "they start from its weights" in caplog.text
    late.trainer.fit(endless(batch(1)), 4, [])
    assert late.trainer.ema.updates == 1


def test_the_best_weights_are_those_that_were_evaluated(tmp_path):
    run = make_ema_run(tmp_path)
    run.best = Best("PQ")
    run.trainer.fit(endless(batch(1)), 3, [])
    weights = state_of(run.task.model)
    with run.evaluated_weights():
        run.record({"PQ": 1.0})
    stored = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert_equal(stored["model"], run.trainer.ema.state_dict())
    assert_equal(state_of(run.task.model), weights)


TWO = """
from segcore.engine.ema import Ema
def make_ema_run(folder, **options):
    run = make_run(folder, **options)
    run.trainer.ema = Ema(run.task.model, run.trainer.optimizer.optimizer, 0.9)
    return run
def batches(start):
    return iter([batch(10 * rank + n) for n in range(start, 6)])
def show(run):
    ema = run.trainer.ema
    say(ema.updates, {k: v.tolist() for k, v in ema.state_dict().items()})
whole = make_ema_run(out / "whole")
whole.trainer.fit(batches(0), 6, [])
show(whole)
first = make_ema_run(out / "broken")
first.trainer.fit(batches(0), 3, [])
first.save(3)
second = make_ema_run(out / "broken", seed=7)
second.resume()
second.trainer.fit(batches(3), 6, [])
show(second)
other = make_ema_run(out / "norm")
other.task.model.norm = torch.nn.BatchNorm1d(2)
mean = other.task.model.norm.running_mean
mean.fill_(rank)
other.trainer.ema.begin()
mean.fill_(5 + rank)
with other.evaluated_weights():
    inside = mean.tolist()
say(inside, mean.tolist())
"""


@pytest.mark.slow
def test_two_ranks_have_the_same_average_also_after_a_resume(tmp_path):
    for said in (ranks := run_ranks(TWO, tmp_path)):
        unbroken, resumed, _ = said.splitlines()
        assert unbroken == resumed
        assert unbroken.startswith("6 {")
    first, second = (said.splitlines() for said in ranks)
    assert first[:2] == second[:2]
    # what is evaluated, and called best, is what rank 0 saves; each trains on with its own means
    assert first[2] == "[0.0, 0.0] [5.0, 5.0]"
    assert second[2] == "[0.0, 0.0] [6.0, 6.0]"
