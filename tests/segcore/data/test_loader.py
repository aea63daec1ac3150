"""Batches of training and test."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loading import load
from tiny import make_dataset

from segcore.data.color import ColorSSD
from segcore.data.loader import Plan, TestLoader, train_loader
from segcore.data.transforms import (
    RandomCrop,
    RandomFlip,
    ResizeShortestEdge,
)
from segcore.data.views import StillViews
from segcore.errors import DataError

STEPS = [ResizeShortestEdge((48, 56), 80), RandomCrop((40, 40)), ColorSSD(), RandomFlip()]


def views_of(metadata, targets="instance"):
    return StillViews(metadata=metadata, targets=targets, steps=STEPS, min_size=48, max_size=80)


def test_same_batches_for_any_number_of_workers_and_after_a_resume(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny / "tiny.yaml"])
    views = views_of(metadata, "panoptic")

    def batches(count, **options):
        stream = train_loader(records, views, batch_size=2, seed=1, **options)
        return [next(stream).images for _ in range(count)]

    plain = batches(6)
    for other in (batches(6, num_workers=2), batches(2) + batches(4, start=2)):
        assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_ranks_share_an_epoch_without_overlap():
    plans = [
        Plan(count=10, batch_size=1, seed=3, rank=rank, world_size=2).batches() for rank in (0, 1)
    ]
    seen = [next(plan)[0][1] for _ in range(5) for plan in plans]
    assert sorted(seen) == list(range(10))
    wide = [i % 2 == 0 for i in range(10)]
    plan = Plan(count=10, batch_size=2, seed=0, wide=wide)
    for batch, _ in zip(plan.batches(), range(20), strict=False):
        assert len({wide[i] for _, i in batch}) == 1


def test_test_shares_cover_everything_once(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny / "tiny.yaml"])
    seen = []
    for rank in range(3):
        loader = TestLoader(records, views_of(metadata), rank=rank, world_size=3, batch_size=2)
        seen += [r.id for batch in loader for r in batch.records]
    assert seen == list(range(8))


def test_worker_errors_keep_their_words(tiny, tmp_path):
    folder = tmp_path / "copy"
    catalog = make_dataset(folder, 2)
    (folder / "images" / "01.png").write_bytes(b"")
    metadata, records = load("tiny_panoptic", Path(), [catalog])
    with pytest.raises(DataError, match=r"01.png: cannot be read"):
        list(TestLoader(records, views_of(metadata), num_workers=1))


SIGNALLED = """
import multiprocessing, os, sys
from loading import load
from test_loader import Path, train_loader, views_of

metadata, records = load("tiny_panoptic", Path(), [Path(sys.argv[1]) / "tiny.yaml"])
stream = train_loader(records, views_of(metadata), batch_size=1, seed=1, num_workers=2)
assert len([next(stream), next(stream)]) == 2  # both workers are there
workers = multiprocessing.active_children()
os.system("kill -TERM {0} {1}; kill -INT {0} {1}".format(*(each.pid for each in workers)))
assert all(next(stream).images.shape[0] == 1 for _ in range(12))  # beyond what was prefetched
assert all(each.is_alive() for each in workers)
print(*(each.pid for each in workers))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system does not say who asks")
def test_a_signal_to_all_processes_leaves_the_workers_to_their_parent(tiny):
    """Which ends them at its own end, also where nobody has closed the stream."""
    here = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(tiny)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*here, *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not any(Path(f"/proc/{number}").exists() for number in done.stdout.split())


def test_a_worker_ends_when_its_parent_asks(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny / "tiny.yaml"])
    stream = train_loader(records, views_of(metadata), batch_size=1, seed=1, num_workers=1)
    assert next(stream).images.shape[0] == 1
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0
