"""What ends a run: signals, broken data, losses that are no numbers."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from fake_task import batch, make_task, make_trainer

from segcore.errors import DataError, NonFiniteError


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
from fake_task import FLAT, FREE, batch, endless, make_task
from test_ends_of_training import broken_after
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
