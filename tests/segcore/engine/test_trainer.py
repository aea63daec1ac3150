"""The step against hand-made ones, and what a resume takes up."""

from functools import partial

import pytest
import torch
from fake_task import FREE, batch, endless, make_fabric, make_task, make_trainer

from segcore.engine.checkpoint import rng_state
from segcore.engine.log import RunLog
from segcore.engine.optim import Clipping, poly
from segcore.engine.trainer import Trainer
from segcore.errors import WeightsError


def weights(trainer):
    return [p.detach().clone() for p in trainer.task.model.parameters()]


def test_accumulated_batches_equal_one_large_batch():
    """Segments are unevenly spread, so a normaliser per micro-batch would give another step."""
    parts = [batch(1, num_segments=1), batch(2, num_segments=3)]
    both = batch(1, num_segments=1)
    both.images = torch.cat([p.images for p in parts])
    both.sizes = torch.cat([p.sizes for p in parts])
    both.targets = [t for p in parts for t in p.targets]
    accumulated, whole = make_trainer(accumulate=2), make_trainer()
    losses = accumulated.step(parts)
    expected = whole.step([both])
    for a, b in zip(weights(accumulated), weights(whole), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(losses["loss_mask_0"], expected["loss_mask_0"])
    naive = make_trainer(accumulate=2)
    naive._counts = lambda batches: (torch.tensor([1.0, 1.0]), torch.zeros(()))
    naive.step(parts)
    assert not torch.allclose(weights(naive)[1], weights(whole)[1])


def test_empty_batches_are_a_step_too():
    trainer = make_trainer()
    losses = trainer.step([batch(1, num_segments=0)])
    assert losses["loss_mask_0"] == 0
    assert all(torch.isfinite(p).all() for p in weights(trainer))


@pytest.mark.parametrize(
    ("clipping", "check"),
    [
        (Clipping("full_model", 0.01), lambda g: torch.cat([x.flatten() for x in g]).norm()),
        (Clipping("value", 0.01), lambda g: max(x.abs().max() for x in g)),
        (Clipping("norm", 0.01), lambda g: max(x.norm() for x in g)),
        (Clipping("norm", 0.01, norm_type=1.0), lambda g: max(x.norm(1) for x in g)),
    ],
)
def test_gradients_are_clipped_to_the_limit(clipping, check):
    """With SGD at rate 1 the change of a weight is its gradient."""
    trainer, free = make_trainer(clipping=clipping), make_trainer()
    steps = []
    for each in (trainer, free):
        before = weights(each)
        each.step([batch(1)])
        steps.append([b - a for a, b in zip(weights(each), before, strict=True)])
    assert check(steps[1]) > 0.02
    assert check(steps[0]) == pytest.approx(0.01, rel=1e-3)


def test_rates_follow_the_schedule_from_their_base(tmp_path):
    task = make_task()
    groups = [
        {"params": [p], "lr": lr}
        for p, lr in zip(task.model.parameters(), (1.0, 0.1, 0.1), strict=True)
    ]
    schedule = poly(max_iter=4, power=1.0, ending=0.0, warmup=(0, 1.0, "linear"))
    trainer = Trainer(task, torch.optim.SGD(groups), schedule, make_fabric(), clipping=FREE)
    seen = []
    every = [(1, lambda i: seen.append([g["lr"] for g in trainer.optimizer.param_groups]))]
    trainer.fit(endless(batch(1)), 4, every)
    assert seen == [pytest.approx([s, s / 10, s / 10]) for s in (1.0, 0.75, 0.5)]


def test_a_resumed_trainer_equals_an_unbroken_one(tmp_path):
    batches = [batch(n, n + 1) for n in range(6)]
    schedule = poly(max_iter=6, power=0.9, ending=0.0, warmup=(3, 0.1, "linear"))
    options = {"kind": torch.optim.AdamW, "rate": 0.1, "schedule": schedule}
    whole = make_trainer(**options)
    whole.fit(iter(batches), 6, [])
    first = make_trainer(**options)
    first.fit(iter(batches[:3]), 3, [])
    state, model = first.state(), first.task.model.state_dict()
    second = make_trainer(make_task(seed=7), **options)
    second.task.model.load_state_dict(model)
    second.restore(state)
    second.fit(iter(batches[3:]), 6, [])
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_another_models_optimizer_raises():
    trainer = make_trainer()
    state = trainer.state()
    state["optimizer"]["param_groups"].append({"params": []})
    with pytest.raises(WeightsError, match="does not fit this model"):
        make_trainer().restore(state)


@pytest.mark.parametrize(("kind", "other"), [("SGD", "AdamW"), ("AdamW", "SGD")])
def test_another_optimizers_state_raises(kind, other):
    state = make_trainer(kind=getattr(torch.optim, kind)).state()
    with pytest.raises(WeightsError, match=f"it is of {kind.upper()}, SOLVER.OPTIMIZER is"):
        make_trainer(kind=getattr(torch.optim, other)).restore(state)


def test_moments_of_another_shape_raise():
    """torch takes them: its fused kernel would read past their end."""
    trainer = make_trainer(kind=torch.optim.AdamW)
    trainer.step([batch(1)])
    state = trainer.state()
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(4, 3)
    with pytest.raises(WeightsError, match=r"exp_avg of parameter 0 is \(4, 3\)"):
        make_trainer(kind=torch.optim.AdamW).restore(state)


def test_a_resumed_run_has_the_settings_of_its_config():
    trainer = make_trainer(kind=partial(torch.optim.AdamW, weight_decay=0.1, betas=(0.8, 0.9)))
    trainer.step([batch(1)])
    other = make_trainer(kind=partial(torch.optim.AdamW, weight_decay=0.3))
    other.restore(trainer.state())
    (group,) = other.optimizer.param_groups
    assert (group["weight_decay"], group["betas"]) == (0.3, (0.9, 0.999))
    assert other.state()["optimizer"]["state"][0]["step"] == 1


def test_actions_come_by_period_and_never_after_the_last_step():
    trainer = make_trainer()
    seen = []
    every = [(2, lambda i: seen.append(("save", i))), (0, seen.append), (3, seen.append)]
    assert trainer.fit(endless(batch(1)), 6, every)
    assert seen == [("save", 2), 3, ("save", 4)]


def test_the_log_has_every_twentieth_step_and_the_last(tmp_path):
    log = RunLog(tmp_path, 45)
    make_trainer(log=log).fit(endless(batch(1)), 45, [])
    log.close()
    lines = log.file.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [f'{{"iteration": {i}' for i in (20, 40, 45)]


def test_training_does_not_touch_the_generators():
    """Bookkeeping draws nothing, so that what the model draws can be resumed."""
    trainer = make_trainer()
    before = rng_state()
    trainer.fit(endless(batch(1)), 3, [])
    after = rng_state()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
