"""Batches on their way to a GPU, on one that is none."""

from pathlib import Path

import gpu_stand_in
import pytest
import torch
from fake_task import batch

from segcore.engine.upload import Upload

UPLOADED = """
import ctypes, os, sys
sys.path[:0] = [{here!r}]
import torch
from fake_task import sample
from segcore.data.loader import _handed_on, _loader, _unpacked
from segcore.engine.upload import Upload
from segcore.structures import Batch

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        for i in range(3):
            yield _handed_on(Batch.collate([sample(4 * i + k) for k in range(4)]))

def counts():
    out = (ctypes.c_long * 4)()
    ctypes.CDLL(os.environ["LD_PRELOAD"]).stand_in_counts(out)
    return torch.tensor(list(out))

upload = Upload(torch.device("cuda:0"))
for workers in (0, 1):
    batches = list(_unpacked(_loader(Stream(), workers)))
    assert all(x.is_pinned() for b in batches for x in (b.images, b.sizes, b.targets[0].masks))
    upload(batches[0])
    torch.cuda.set_sync_debug_mode("error")
    before = counts()
    moved = upload(batches[1])
    copies, waits, pageable, pinned = (counts() - before).tolist()
    torch.cuda.set_sync_debug_mode("default")
    assert (copies, waits, pageable) == (4, 0, 0), (copies, waits, pageable)
    plain = Batch.collate([sample(4 + k) for k in range(4)])
    assert pinned >= plain.images.numel() + sum(t.masks.numel() for t in plain.targets)
    assert torch.equal(moved.images.cpu(), plain.images)
    for a, b in zip(moved.targets, plain.targets, strict=True):
        for name in ("labels", "masks", "present"):
            assert getattr(a, name).device == torch.device("cuda:0")
            whole = getattr(a, name)._base.cpu()  # the stand-in copies whole tensors alone
            there = getattr(a, name)
            there = whole.as_strided(there.shape, there.stride(), there.storage_offset())
            assert torch.equal(there, getattr(b, name))
"""


@pytest.mark.slow
def test_a_step_sends_four_pinned_tensors_and_waits_for_none(stand_in: Path):
    gpu_stand_in.run(stand_in, UPLOADED.format(here=str(Path(__file__).parent)))


def test_a_batch_that_is_there_stays():
    here = batch(1, 2)
    assert Upload(torch.device("cpu"))(here) is here
