"""Batches that leave a worker: nothing is lost, little is held."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest
import torch
from loading import load
from test_loader import views_of

from segcore.data.loader import train_loader
from segcore.data.packed import PackedBatch
from segcore.structures import Batch, Frame, Polygons, Record, Sample, Targets


def sample(count: int, side: int) -> Sample:
    generator = torch.Generator().manual_seed(10 * count + side)
    masks = torch.rand(count, 2, side, side, generator=generator) > 0.5
    targets = Targets(torch.arange(count), masks, masks.flatten(2).any(2))
    if count:
        targets.polygons = [Polygons(((1.0, 2.0, 3.0),)), *[None] * (count - 1)]
    views = torch.randint(0, 256, (2, 3, side, side), generator=generator, dtype=torch.uint8)
    record = Record(side, (side, side), (Frame(Path("a.png")),))
    return Sample(views, torch.tensor([[side, side]] * 2), torch.zeros(2, 4), targets, record)


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.records == other.records
    for name in ("images", "sizes", "boxes"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    for a, b in zip(one.targets, other.targets, strict=True):
        assert (a.polygons, a.size, a.labels.dtype) == (b.polygons, b.size, b.labels.dtype)
        for name in ("labels", "masks", "present"):
            assert torch.equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("counts", [(3, 0, 1), (0, 0), (2,)])
@pytest.mark.parametrize("shared", [False, True])
def test_an_unpacked_batch_equals_what_was_packed(counts, shared):
    batch = Batch.collate([sample(n, 20 + 20 * i) for i, n in enumerate(counts)])
    packed = PackedBatch.pack(batch, shared=shared)
    assert_equal(packed.unpack(), batch)
    masks = packed.tensors[1]
    assert masks.is_shared() == (shared and masks.numel() > 0)


def test_a_test_batch_has_nothing_to_pack():
    batch = Batch.collate([sample(1, 32)])
    batch.targets = []
    packed = PackedBatch.pack(batch, shared=True)
    assert packed.tensors == ()
    assert packed.unpack().targets == []


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_a_batch_of_a_worker_holds_six_file_descriptors(tiny):
    metadata, records = load("tiny_panoptic", Path(), [tiny / "tiny.yaml"])
    options = {"batch_size": 8, "seed": 1}
    stream = train_loader(records, views_of(metadata, "panoptic"), num_workers=1, **options)
    first = next(stream)
    plain = train_loader(records, views_of(metadata, "panoptic"), **options)
    assert_equal(first, next(plain))
    before = len(os.listdir("/proc/self/fd"))
    held = list(itertools.islice(stream, 4))
    opened = len(os.listdir("/proc/self/fd")) - before
    assert len(held) == 4
    assert opened <= 4 * 6 + 6  # one more batch may have come
