"""Which evaluation is the best, when there were enough of them, and what a resume knows."""

import json

import pytest
import torch
from fake_task import batch, endless
from filling_disk import full_disk
from test_run import make_run
from two_ranks import run_ranks

from segcore.engine.best import Best

VALUES = [3.0, 5.0, 4.0, 5.0, 7.0, 6.0]  # by evaluation, one after every step


def best_of(values, **options):
    best = Best("PQ", **options)
    for iteration, value in enumerate(values, 1):
        if best.add({"PQ": value}, iteration):
            best.saved()
    return best


def test_the_highest_value_is_the_best_and_the_first_of_equal_ones():
    assert best_of(VALUES).best["iteration"] == 5
    assert best_of(VALUES[:4]).best["iteration"] == 2
    assert best_of([float("nan")]).best is None
    assert best_of([float("nan"), 0.0]).best["value"] == 0


@pytest.mark.parametrize(
    ("metrics", "metric", "sets", "name"),
    [
        ({"mIoU": 1, "AP": 2, "PQ": 3}, "auto", (), "PQ"),
        ({"mIoU": 1, "AP": 2}, "auto", (), "AP"),
        ({"mIoU": 1, "pACC": 2}, "auto", (), "mIoU"),
        ({"APe": 1, "covered": 2}, "auto", (), "APe"),
        ({"mIoU": 1, "pACC": 2}, "pACC", (), "pACC"),
        ({"a/mIoU": 1, "b/PQ": 2}, "auto", ("a", "b"), "a/mIoU"),
        ({"a/mIoU": 1, "b/PQ": 2}, "PQ", ("a", "b"), "b/PQ"),
        ({"a/PQ": 1, "b/PQ": 2}, "b/PQ", ("a", "b"), "b/PQ"),
    ],
)
def test_the_metric_is_that_of_the_task_or_the_named_one(metrics, metric, sets, name):
    best = Best(metric, sets)
    assert best.add(metrics, 1)
    assert best.evaluations[0]["metric"] == name
    assert best.evaluations[0]["value"] == metrics[name]


def test_a_metric_that_is_not_there_is_an_error_in_the_log_once(caplog):
    best = Best("PQQ")
    for iteration in (1, 2):
        assert not best.add({"PQ": 1.0, "mIoU": 2.0}, iteration)
    assert caplog.text.count("TEST.BEST_METRIC PQQ: no such metric") == 1
    assert "like PQ" in caplog.text


@pytest.mark.parametrize(
    ("patience", "min_delta", "end"),
    [(0, 0.0, None), (1, 0.0, 3), (2, 0.0, 4), (3, 0.0, None), (2, 2.5, 3), (3, 2.5, 4)],
)
def test_patience_counts_evaluations_without_improvement(patience, min_delta, end):
    """By a margin of 2.5: 3 is one, 5 and 4 are not, 5 is not, 7 is."""
    ends = [
        n for n in range(1, 7)
        if best_of(VALUES[:n], patience=patience, min_delta=min_delta).enough()
    ]  # fmt: skip
    assert (ends[0] if ends else None) == end


def evaluating_run(folder, values=VALUES, seed=0, **options):
    """A run whose evaluations have these values, and what it does between steps."""
    run = make_run(folder, seed)
    run.best = Best("PQ", **options)

    def evaluate(iteration):
        run.save(iteration)
        run.record({"PQ": values[iteration - 1]})

    return run, [(1, evaluate)]


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def test_model_best_holds_the_weights_that_were_evaluated(tmp_path):
    run, every = evaluating_run(tmp_path)
    seen = {}
    every.append((1, lambda i: seen.update({i: run.task.model.color.weight.clone()})))
    run.trainer.fit(endless(batch(1)), 7, every)
    assert torch.equal(weights(tmp_path / "model_best.pth")["color.weight"], seen[5])
    stored = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert stored["evaluation"] == {"iteration": 5, "metric": "PQ", "value": 7.0}
    assert stored["metadata"] == run.about["metadata"]
    assert "trainer" not in stored
    written = json.loads((tmp_path / "best.json").read_text())
    assert written["weights"] == "model_best.pth"
    assert (written["iteration"], written["value"]) == (5, 7.0)
    assert [e["value"] for e in written["evaluations"]] == VALUES


def test_early_stopping_ends_the_run_and_a_resume_does_not_go_on(tmp_path, caplog):
    run, every = evaluating_run(tmp_path, patience=2)
    assert run.trainer.fit(endless(batch(1)), 7, every)
    assert run.trainer.iteration == 4
    assert "PQ has not improved in 2 evaluations" in run.trainer.ended
    run.save_as("model_final")
    again, every = evaluating_run(tmp_path, patience=2)
    again.resume()
    assert again.trainer.fit(endless(batch(1)), 7, every)
    assert again.trainer.iteration == 4
    longer, every = evaluating_run(tmp_path, patience=3)
    longer.resume()
    assert longer.trainer.fit(endless(batch(1)), 7, every)
    assert longer.trainer.iteration == 7


def test_a_resume_knows_the_evaluations_before_it(tmp_path):
    """That of the last checkpoint's own iteration is in best.json alone; without it, it is due."""
    run, every = evaluating_run(tmp_path)
    run.trainer.fit(endless(batch(1)), 5, every)
    other, _ = evaluating_run(tmp_path, seed=5)
    other.resume()
    assert other.trainer.iteration == 4
    assert other.best.evaluations == run.best.evaluations
    assert not other.missed_evaluation(1)
    (tmp_path / "best.json").write_text("{")  # by another program
    third, _ = evaluating_run(tmp_path, seed=5)
    third.resume()
    assert third.best.evaluations == run.best.evaluations[:3]
    assert third.missed_evaluation(1) and third.missed_evaluation(2)
    assert not third.missed_evaluation(3) and not third.missed_evaluation(0)


def test_a_full_disk_leaves_the_old_best(tmp_path, monkeypatch, caplog):
    run, every = evaluating_run(tmp_path)
    run.trainer.fit(endless(batch(1)), 3, every)
    before = (tmp_path / "model_best.pth").read_bytes()
    with monkeypatch.context() as patch:
        full_disk(patch, 300)
        run.trainer.iteration = 5
        run.record({"PQ": VALUES[4]})
    assert (tmp_path / "model_best.pth").read_bytes() == before
    assert "the old best stays" in caplog.text
    written = json.loads((tmp_path / "best.json").read_text())
    assert (written["iteration"], written["value"]) == (2, 5.0)
    run.trainer.iteration = 6
    run.record({"PQ": VALUES[5]})  # better than what is on the disk
    assert json.loads((tmp_path / "best.json").read_text())["iteration"] == 6


def test_a_new_run_sets_the_old_best_aside(tmp_path):
    run, every = evaluating_run(tmp_path)
    run.trainer.fit(endless(batch(1)), 3, every)
    make_run(tmp_path).begin()
    assert not list(tmp_path.glob("*best*"))
    assert (tmp_path / "earlier-1" / "best.json").exists()
    assert (tmp_path / "earlier-1" / "model_best.pth").exists()


TWO = """
from segcore.engine.best import Best
run = make_run(out)
run.best = Best("PQ", patience=2)
def evaluate(iteration):
    run.save(iteration)
    run.record({"PQ": [3.0, 5.0, 4.0, 5.0][iteration - 1]} if rank == 0 else {})
def batches():
    while True:
        yield batch(rank)
done = run.trainer.fit(batches(), 9, [(1, evaluate)])
say(done, run.trainer.iteration, run.trainer.ended, run.best.evaluations)
other = make_run(out)
other.best = Best("PQ", patience=2)
other.resume()
say(other.trainer.iteration, other.trainer.ended, other.best.evaluations)
"""


@pytest.mark.slow
def test_two_ranks_end_together(tmp_path):
    first, second = run_ranks(TWO, tmp_path)
    assert first == second
    assert first.startswith("True 4 PQ has not improved in 2 evaluations")
    assert "\n4 PQ has not improved" in first
    assert (tmp_path / "model_best.pth").exists()
