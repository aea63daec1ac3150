"""What is measured for a plan, and what follows from it."""

import pytest
from drawn_facts import CPU, facts

from segcore.cli.plan import values_of
from segcore.cli.plan_fitting import Probe, fitted
from segcore.config import load_config
from segcore.plan.plan import Wishes, begin, draft

DATA = facts(100)
BASE = values_of("small/maskrcnn_lite0.yaml")  # batches of 4


class GivenMeter:
    """Seconds and shares that a test gives, and what it is asked.

    Args:
        image: seconds of one image of a step in fp32; bf16 takes `bf16` times as long, a
            batch of more than two `bf16_of_large` times.
        shares: of the memory, one for each question.
    """

    def __init__(self, image, shares=(0.1,), bf16=0.5, bf16_of_large=None):
        self.image_seconds, self.shares, self.bf16 = image, list(shares), bf16
        self.bf16_of_large = bf16_of_large or bf16
        self.asked, self.longest = [], set()

    def step(self, config_file, opts, precision, *, enough, longest):
        solver = load_config(config_file, opts).SOLVER
        self.asked.append((solver.IMS_PER_BATCH, solver.ACCUMULATE, precision, enough))
        self.longest.add(longest)
        factor = self.bf16 if precision == "bf16" else 1
        if solver.IMS_PER_BATCH > 2 and precision == "bf16":
            factor = self.bf16_of_large
        return self.image_seconds * solver.IMS_PER_BATCH * factor

    def image(self, config_file, opts, *, longest):
        self.asked.append("image")
        self.longest.add(longest)
        return 0.5

    def share(self, config_file, opts, memory):
        assert memory == CPU.memory
        self.asked.append("memory")
        return self.shares.pop(0)


def plan_by(meter, tmp_path, minutes, ranks=1):
    start = begin(DATA, CPU, Wishes(task="instance", network="maskrcnn", minutes=minutes))
    plan = draft(start, DATA, CPU, BASE)
    probe = Probe(tmp_path / "plan.yaml", BASE, (), meter)
    return fitted(plan, DATA, CPU, probe, ranks)


def test_larger_batches_are_not_measured_where_too_few_steps_of_the_smallest_fit(tmp_path, capsys):
    meter = GivenMeter(1.0)
    plan, measured = plan_by(meter, tmp_path, 4.0)
    few, more = [(2, 1, "fp32", 2), (2, 1, "bf16", 2)], (2, 1, "bf16", 6)
    assert meter.asked == [*few, more, "image", "memory"]
    assert sorted(meter.longest) == pytest.approx([4.8])  # two hundredths of the time
    assert plan.value("SOLVER.IMS_PER_BATCH") == 2
    assert (measured.step, measured.image, measured.peak) == (1.0, 0.5, 0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "measuring 1 of 5: a step of 2 images in fp32 ... 2.00 s"
    assert lines[-1] == "measuring 5 of 5: memory of the worst images ... 10%"


@pytest.mark.parametrize(("image", "size"), [(0.1, 4), (0.9, 2)])
def test_the_batch_of_the_base_is_measured_where_steps_of_the_smallest_fit(
    tmp_path, capsys, image, size
):
    meter = GivenMeter(image)
    plan, measured = plan_by(meter, tmp_path, 20.0)
    assert [each[0] for each in meter.asked[:-2]] == [2, 2, 4, 4, size]
    assert plan.value("SOLVER.IMS_PER_BATCH") == size
    assert measured.step == image * size / 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("measuring 7 of 7")


def test_precision_is_that_of_the_batch_that_is_planned(tmp_path):
    assert plan_by(GivenMeter(1.0), tmp_path, 4.0)[0].value("SOLVER.AMP.PRECISION") == "bf16"
    meter = GivenMeter(1.0, bf16=2.0)
    plan, _ = plan_by(meter, tmp_path, 4.0)
    assert plan.value("SOLVER.AMP.ENABLED") is False
    assert meter.asked[2] == (2, 1, "fp32", 6)
    meter = GivenMeter(0.1, bf16=0.5, bf16_of_large=2.0)
    plan, measured = plan_by(meter, tmp_path, 60.0)
    assert plan.value("SOLVER.AMP.PRECISION") is None
    assert (meter.asked[-3], measured.step) == ((4, 1, "fp32", 6), 0.4)


def test_parts_of_a_batch_follow_from_the_memory_and_are_timed(tmp_path, capsys):
    meter = GivenMeter(0.1, shares=[2.0, 0.9, 0.5])
    plan, measured = plan_by(meter, tmp_path, 60.0)
    assert plan.value("SOLVER.ACCUMULATE") == 4
    assert meter.asked[-4:] == ["memory", "memory", "memory", (4, 4, "bf16", 6)]
    assert measured.peak == 0.5
    assert "in 4 parts in bf16" in capsys.readouterr().err


def test_batches_are_shared_out_among_ranks(tmp_path):
    meter = GivenMeter(1.0)
    plan, _ = plan_by(meter, tmp_path, 4.0, ranks=3)
    assert plan.value("SOLVER.IMS_PER_BATCH") == 3
    assert {each[0] for each in meter.asked[:3]} == {3}
