"""What a plan is measured by: which steps count, whose peak, in whose process."""

import pytest
from tiny import make_dataset

from segcore.cli.measured_steps import Bench, Meter
from segcore.cli.plan import worst_share
from segcore.cli.worst_batches import Peak, in_order
from segcore.config import load_config

CONFIG = "tiny/instance_tiny.yaml"


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    catalog = make_dataset(tmp_path_factory.mktemp("measured"))
    return ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu"]


@pytest.fixture
def bench(opts, monkeypatch):
    """With the seconds that its steps will say they took, and what it made."""
    made = []

    def timed(self, cfg, trainer):
        made.append((cfg.SOLVER.IMS_PER_BATCH, id(trainer)))
        return seconds.pop(0)

    monkeypatch.setattr(Bench, "_timed", timed)
    seconds = []
    return Bench(in_order(load_config(CONFIG, opts))), seconds, made


def config(opts, *more):
    return in_order(load_config(CONFIG, [*opts, *more]))


def test_the_first_step_does_not_count_and_later_questions_go_on_with_the_same_trainer(bench, opts):
    bench, seconds, made = bench
    seconds += [9.0, 1.0, 2.0]
    assert bench.step(config(opts), "fp32", enough=2, longest=60) == 1.5
    seconds += [4.0, 3.0]
    assert bench.step(config(opts), "fp32", enough=4, longest=60) == 2.5  # of 1, 2, 4, 3
    assert len({trainer for _, trainer in made}) == 1
    assert bench.step(config(opts), "fp32", enough=4, longest=60) == 2.5
    assert not seconds


def test_three_steps_that_are_alike_are_enough(bench, opts):
    bench, seconds, _ = bench
    seconds += [9.0, 1.0, 1.05, 1.02, 7.0]
    assert bench.step(config(opts), "fp32", enough=6, longest=60) == 1.02
    assert seconds == [7.0]


def test_one_step_that_counts_is_made_however_short_the_time(bench, opts):
    bench, seconds, _ = bench
    seconds += [9.0, 2.0, 7.0]
    assert bench.step(config(opts), "fp32", enough=6, longest=0) == 2.0
    assert seconds == [7.0]


def test_another_batch_has_a_trainer_and_a_first_step_of_its_own(bench, opts):
    bench, seconds, made = bench
    seconds += [9.0, 1.0, 9.0, 3.0, 9.0, 5.0]
    for size, precision, found in ((4, "fp32", 1.0), (2, "fp32", 3.0), (2, "bf16", 5.0)):
        cfg = config(opts, "SOLVER.IMS_PER_BATCH", str(size))
        assert bench.step(cfg, precision, enough=1, longest=60) == found
    assert [size for size, _ in made] == [4, 4, 2, 2, 2, 2]


class Answering(Meter):
    """A meter without a process."""

    def __init__(self, peak):
        super().__init__(alone=lambda *given: self.given.append(given) or 0.7)
        self.peak, self.given = peak, []

    def _ask(self, *question):
        if self.peak is EOFError:
            raise EOFError
        return self.peak and Peak(self.peak, self.peak, 1000.0, 1.0)


@pytest.mark.parametrize(
    ("peak", "share"), [(300.0, 0.3), (800.0, 0.8), (810.0, 0.7), (None, 0.7), (EOFError, 0.7)]
)
def test_a_peak_that_is_too_high_is_measured_alone(peak, share):
    meter = Answering(peak)
    assert meter.share("plan.yaml", ["SEED", "1"], 1000.0) == share
    assert meter.given == ([] if share != 0.7 else [("plan.yaml", ["SEED", "1"], 1000.0)])


def test_a_process_that_fails_raises():
    with pytest.raises(RuntimeError, match="a step on the data set failed"):
        Answering(EOFError).step("plan.yaml", [], "fp32", enough=1, longest=1)


@pytest.mark.slow
def test_one_process_answers_and_its_peak_is_no_less_than_that_of_a_process_alone(opts):
    with Meter(worst_share) as meter:
        seconds = meter.step(CONFIG, opts, "fp32", enough=2, longest=60)
        image = meter.image(CONFIG, opts, longest=60)
        share = meter.share(CONFIG, opts, 1e5)
        process = meter._process
    assert 0 < image < 60 and 0 < seconds < 60
    assert 0.95 * worst_share(CONFIG, opts, 1e5) <= share < 0.1
    assert process.exitcode == 0
