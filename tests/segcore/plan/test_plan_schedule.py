"""How long a plan trains, in what batches."""

import pytest
from drawn_facts import facts

from segcore.plan import schedule
from segcore.plan.facts import Measured

BASE = {
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.BASE_LR": 5e-4,
    "SOLVER.OPTIMIZER": "ADAMW",
}


def values(decisions):
    return {decision.key: decision.value for decision in decisions}


def test_mixed_precision_has_to_be_worth_it():
    assert values(schedule.precision({"fp32": 1.0, "bf16": 0.7})) == {
        "SOLVER.AMP.ENABLED": True,
        "SOLVER.AMP.PRECISION": "bf16",
    }
    for seconds in ({"fp32": 1.0, "bf16": 0.99}, {"fp32": 1.0, "bf16": 3.0}, {"fp32": 1.0}):
        assert values(schedule.precision(seconds)) == {"SOLVER.AMP.ENABLED": False}


def test_batches_are_halved_until_enough_steps_fit():
    assert schedule.batch_of(BASE, 60, 1.0) == 8  # 3420 steps
    assert schedule.batch_of(BASE, 20, 2.0) == 4  # 570 of 8
    assert schedule.batch_of(BASE, 1, 100.0) == 2


def test_rate_follows_the_batch():
    assert values(schedule.batch(BASE, 8, 100))["SOLVER.BASE_LR"] == 5e-4
    assert values(schedule.batch(BASE, 2, 100))["SOLVER.BASE_LR"] == 2.5e-4
    sgd = BASE | {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.02}
    assert values(schedule.batch(sgd, 2, 100))["SOLVER.BASE_LR"] == 0.005


def test_a_batch_that_does_not_fit_is_computed_in_pieces():
    assert schedule.pieces_of(8, 0.5) == 1
    assert [schedule.pieces_of(8, 2.0, n) for n in (1, 2, 4, 8)] == [2, 4, 8, 8]
    assert schedule.pieces_of(6, 0.9, 3) == 6
    found = values(schedule.batch(BASE, 8, 100, 4))
    assert found["SOLVER.ACCUMULATE"] == 4
    assert found["SOLVER.BASE_LR"] == 5e-4  # the batch is as it was
    assert "SOLVER.ACCUMULATE" not in values(schedule.batch(BASE, 8, 100))


def test_steps_and_evaluations_fill_the_time():
    measured = Measured(step=1.0, image=0.5, peak=0.1)
    found = values(schedule.steps(facts(100), 20, 2, measured, 20))
    spent = found["SOLVER.MAX_ITER"] * 1.0 + 5 * 20 * 0.5
    assert 0.9 * 1200 < spent < 1200
    assert found["TEST.EVAL_PERIOD"] * 5 >= found["SOLVER.MAX_ITER"]
    assert found["TEST.EVAL_PERIOD"] * 4 < found["SOLVER.MAX_ITER"]


@pytest.mark.parametrize(("image", "tested"), [(60.0, 10), (1000.0, 1)])
def test_slow_evaluations_come_at_the_end_alone(image, tested):
    measured = Measured(step=1.0, image=image, peak=0.1)
    found = values(schedule.steps(facts(100), 20, 2, measured, tested))
    assert found["TEST.EVAL_PERIOD"] == 0
    assert found["SOLVER.MAX_ITER"] >= schedule.FEWEST_STEPS


def test_few_images_are_not_seen_for_ever():
    measured = Measured(step=0.05, image=0.01, peak=0.1)
    found = schedule.steps(facts(3), 240, 8, measured, 1)
    assert values(found)["SOLVER.MAX_ITER"] == 800
    assert values(schedule.steps(facts(100), 240, 8, measured, 1))["SOLVER.MAX_ITER"] == 3750
