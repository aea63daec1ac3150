"""Which of many 64-bit numbers differ in few bits, without looking at every pair.

Legend of one-letter names: N numbers, P pairs.
"""

from __future__ import annotations

import numpy as np

PARTS, BITS = 4, 16
LARGEST_DISTANCE = 2 * PARTS - 1  # else a pair might differ in two bits of each part
CHUNK = 1 << 22  # candidates that are compared at a time


def near_pairs(numbers: np.ndarray, distance: int) -> np.ndarray:
    """(N,) uint64, all different -> (P, 2) indices of pairs that differ in at most so many bits.

    Of a pair with at most seven different bits, one of four parts differs in one bit or none
    (multi-index hashing: Norouzi, Punjani and Fleet 2012, section 3). So each part, and each part
    with one bit turned, is looked up among the others' parts.

    Args:
        distance: 0 to LARGEST_DISTANCE.
    """
    if not 0 <= distance <= LARGEST_DISTANCE:
        raise ValueError(f"distance is {distance}; expected 0 to {LARGEST_DISTANCE}")
    found = [np.zeros((0, 2), np.int64)]
    for part in range(PARTS):
        values = ((numbers >> np.uint64(BITS * part)) & np.uint64((1 << BITS) - 1)).astype(np.int64)
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        for turned in (0, *(1 << bit for bit in range(BITS))):
            wanted = values ^ turned
            low = np.searchsorted(ordered, wanted, "left")
            high = np.searchsorted(ordered, wanted, "right")
            found += _compared(numbers, order, low, high - low, distance)
    return np.unique(np.concatenate(found), axis=0)


def _compared(
    numbers: np.ndarray, order: np.ndarray, low: np.ndarray, counts: np.ndarray, distance: int
) -> list[np.ndarray]:
    """Pairs among the candidates of one part.

    Args:
        order: (N,) indices, sorted by that part.
        low: (N,) where the candidates of each begin in `order`.
        counts: (N,) how many there are.
    """
    found, ends = [], np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
        some = counts[start:stop]
        first = np.repeat(np.arange(start, stop), some)
        step = np.arange(len(first)) - np.repeat(np.cumsum(some) - some, some)
        second = order[np.repeat(low[start:stop], some) + step]
        one_way = first < second
        first, second = first[one_way], second[one_way]
        near = np.bitwise_count(numbers[first] ^ numbers[second]) <= distance
        found.append(np.stack([first[near], second[near]], 1))
        start = stop
    return found
