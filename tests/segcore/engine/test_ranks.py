"""What two processes tell each other, so that none waits for another in vain."""

import pytest
from two_ranks import run_ranks

pytestmark = pytest.mark.slow

BROKEN = """
trainer = make_trainer(breaks=(3,))
trainer.optimizer.step = lambda: None  # fp16's scaler skips a step whose gradients are none
fabric.strategy.precision.state_dict = lambda: {"scale": 1.0}
good, bad = batch(1), batch(5, num_segments=3, label=1)
def batches():
    for i in range(20):
        yield bad if rank == 1 and i == 4 else good
saved = []
try:
    trainer.fit(batches(), 20, [(1, saved.append)])
except NonFiniteError as error:
    say(str(error).replace("\\n", " "))
say(saved[-1], trainer.iteration)
"""
RESUME = """
torch.manual_seed(5 + rank)
first = make_run(out / f"disk{rank}")  # as on machines that share none
first.trainer.fit(iter([batch(1 + rank)] * 2), 2, [])
first.save(2)
expected = torch.rand(3)
assert (out / f"disk{rank}" / "last_checkpoint").exists() == (rank == 0)
torch.manual_seed(7)
second = make_run(out / f"disk{rank}", seed=3)
say(second.resume()["iteration"], torch.equal(torch.rand(3), expected))
pairs = zip(first.task.model.parameters(), second.task.model.parameters())
say(all(torch.equal(a, b) for a, b in pairs))
moments = [run.trainer.state()["optimizer"]["state"][0] for run in (first, second)]
say(torch.equal(moments[0]["exp_avg"], moments[1]["exp_avg"]), moments[1]["step"].item())
say(make_run(out / "none").resume())
if rank == 0:
    for path in (out / "disk0").glob("model_*.pth"):
        path.write_bytes(b"half")
try:
    make_run(out / f"disk{rank}").resume()
except WeightsError as error:
    say("none of" in str(error))
"""
LONG = """
import threading
from segcore.engine import ranks
ranks.PERIOD = 0.01
asked = ranks.of_all_ranks
enough = threading.Event()
count = [0]
def counted(value, fabric):
    count[0] += 1
    if count[0] > 3:
        enough.set()
    return asked(value, fabric)
ranks.of_all_ranks = counted
def compute():
    assert enough.wait(60)  # the others were told several times that we are at work
    return {"a": 1}
say(ranks.on_first_rank(compute, fabric), count[0] > 3)
def broken():
    raise DataError("a.json: broken")
try:
    ranks.on_first_rank(broken, fabric)
except DataError as error:
    say(error)
"""


def test_a_loss_that_is_no_number_on_one_rank_raises_on_all(tmp_path):
    first, second = run_ranks(BROKEN, tmp_path)
    assert first == second
    assert "iteration 5: loss_mask_0 = nan" in first
    assert "image 5" in first
    assert "(process 1 of 2)" in first
    assert first.splitlines()[1].startswith("4 ")  # nothing was saved after it


def test_a_resume_is_decided_by_rank_zeros_disk(tmp_path):
    lines = "2 True\nTrue\nTrue 2.0\nNone\nTrue\n"
    assert run_ranks(RESUME, tmp_path) == [lines, lines]


def test_the_others_wait_for_rank_zero_however_long_it_takes(tmp_path):
    first, second = run_ranks(LONG, tmp_path)
    assert first == "{'a': 1} True\na.json: broken (process 0 of 2)\n"
    assert second == "None True\na.json: broken (process 0 of 2)\n"
