"""Numbers that differ in few bits are found, all of them and no others."""

from __future__ import annotations

import numpy as np
import pytest

from segcore.doctor import near_hashes
from segcore.doctor.near_hashes import LARGEST_DISTANCE, near_pairs


def planted(rng, count):
    """Random numbers, and neighbours of some of them at distances of 1 to 9 bits."""
    numbers = rng.integers(0, 2**64, count, np.uint64)
    near = numbers[: count // 2].copy()
    for i in range(len(near)):
        for bit in rng.choice(64, 1 + i % 9, replace=False):
            near[i] ^= np.uint64(1) << np.uint64(bit)
    return np.unique(np.concatenate([numbers, near]))


@pytest.mark.parametrize("distance", [0, 3, 6, LARGEST_DISTANCE])
@pytest.mark.parametrize("chunk", [16, 1 << 20])
def test_pairs_equal_those_of_all_comparisons(distance, chunk, monkeypatch):
    monkeypatch.setattr(near_hashes, "CHUNK", chunk)
    numbers = planted(np.random.default_rng(0), 300)
    bits = np.bitwise_count(numbers[:, None] ^ numbers[None])
    wanted = np.argwhere(np.triu(bits <= distance, 1))
    assert np.array_equal(near_pairs(numbers, distance), wanted)
    assert len(wanted) > 20 or distance == 0


def test_nothing_and_one_have_no_pairs():
    assert near_pairs(np.zeros(0, np.uint64), 6).shape == (0, 2)
    assert near_pairs(np.ones(1, np.uint64), 6).shape == (0, 2)


def test_too_large_a_distance_raises():
    with pytest.raises(ValueError, match="expected 0 to 7"):
        near_pairs(np.ones(1, np.uint64), 8)
