"""The step against hand-made ones, and what ends a run."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from fake_task import batch, make_fabric, make_task

from segcore.engine.checkpoint import rng_state
from segcore.engine.log import RunLog
from segcore.engine.optim import Clipping, poly
from segcore.engine.trainer import Trainer
from segcore.errors import DataError, NonFiniteError, WeightsError

FREE = Clipping(limit=0.0)
FLAT = poly(max_iter=100, power=0.0, ending=0.0, warmup=(0, 1.0, "linear"))


def make_trainer(task=None, kind=torch.optim.SGD, rate=1.0, schedule=FLAT, **options):
    task = task or make_task()
    optimizer = kind(task.model.parameters(), lr=rate)
    return Trainer(task, optimizer, schedule, make_fabric(), **({"clipping": FREE} | options))


def weights(trainer):
    return [p.detach().clone() for p in trainer.task.model.parameters()]


def endless(*batches):
    while True:
        yield from batches


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


def test_a_loss_that_is_no_number_raises_and_names_itself_and_its_images(tmp_path):
    trainer = make_trainer(make_task(breaks=(3,)), folder=tmp_path)
    bad = batch(5, num_segments=3, label=1)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(iter([batch(1), batch(2), bad, batch(3)]), 4, [])
    text = str(caught.value)
    assert "iteration 3: loss_mask_0 = nan" in text
    assert "image 5" in text
    assert "image 2" not in text
    assert "BASE_LR" in text
    saved = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)
    assert torch.equal(saved["batches"][0]["images"], bad.images)
    assert torch.equal(saved["batches"][0]["masks"][0], bad.targets[0].masks)
    assert saved["batches"][0]["ids"] == ["image 5"]
    assert "loss_mask_0" in saved["losses"]


def test_nothing_is_saved_after_a_loss_that_is_no_number():
    trainer = make_trainer(make_task(breaks=(3,)))
    saved = []
    with pytest.raises(NonFiniteError):
        trainer.fit(
            iter([batch(1), batch(5, num_segments=3, label=1)]), 9, [(1, lambda i: saved.append(i))]
        )
    assert saved == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step(number):
    trainer = make_trainer()
    before = signal.getsignal(number)

    def batches():
        for i in range(100):
            if i == 3:
                os.kill(os.getpid(), number)
            yield batch(i)

    assert not trainer.fit(batches(), 100, [])
    assert trainer.iteration == 4  # the step in hand is finished
    assert trainer.signals.caught == number
    assert signal.getsignal(number) is before


def test_a_signal_is_answered_at_once(capfd):
    def batches():
        os.kill(os.getpid(), signal.SIGTERM)
        assert "SIGTERM: stopping after this step" in capfd.readouterr().err
        yield batch(1)

    make_trainer().fit(batches(), 9, [])


def broken_after(count):
    yield from [batch(i) for i in range(count)]
    raise DataError("7.png: broken")


def test_broken_data_raises_between_two_steps():
    trainer = make_trainer()
    with pytest.raises(DataError, match=r"^7\.png: broken$"):
        trainer.fit(broken_after(3), 9, [])
    assert trainer.iteration == 3
    assert trainer.can_save


TWO = """
import sys
sys.path.insert(0, {here!r})
from fake_task import batch, make_task
from test_trainer import FLAT, FREE, broken_after, endless
import torch
from segcore.engine.launch import launch
from segcore.engine.trainer import Trainer
from segcore.errors import DataError

fabric = launch(num_gpus=2, device="cpu")
for good in (0, 2):
    task = make_task()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    trainer = Trainer(task, optimizer, FLAT, fabric, clipping=FREE)
    batches = endless(batch(1)) if fabric.global_rank == 0 else broken_after(good)
    with open({out!r} + f"{{fabric.global_rank}} {{good}}", "w") as stream:
        try:
            trainer.fit(batches, 9, [])
        except DataError as error:
            print(error, trainer.iteration, trainer.can_save, file=stream)
fabric.barrier()  # the test reads both files when the first process ends
"""


@pytest.mark.slow
def test_one_ranks_broken_data_raises_on_all_of_them(tmp_path):
    script, here = tmp_path / "two.py", __file__.rpartition("/")[0]
    script.write_text(TWO.format(here=here, out=str(tmp_path / "rank")))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for good, iteration in ((0, 0), (2, 3)):  # the step of the failure is finished
        text = f"7.png: broken (process 1 of 2) {iteration} True\n"
        assert [(tmp_path / f"rank{r} {good}").read_text() for r in (0, 1)] == [text, text]


def test_a_second_signal_is_not_held_back(request):
    # a shell's background jobs ignore Ctrl-C, and so would this test there
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    trainer = make_trainer()

    def batches():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield batch(1)

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(batches(), 100, [])


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
