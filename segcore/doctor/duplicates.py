"""Images that are there twice: in one data set, or in the one that tests what the other taught.

Legend of one-letter names: N different images, P pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from segcore.doctor.finding import Case, Finding, Severity, finding
from segcore.doctor.near_hashes import near_pairs
from segcore.doctor.pixels import Look

DISTANCE = 6  # bits of 64 in which two hashes of one scene may differ
ALIKE = 0.97  # correlation of thumbnails of one scene
SAME, NEAR = "same image twice", "nearly the same image twice"
SAME_IN_TWO, NEAR_IN_TWO = "image of another data set", "nearly an image of another data set"
ADVICE = {
    SAME: "it counts twice; leave one out, with its annotations (--fix does)",
    NEAR: "frames of a video, or copies at another size? keep them on one side of the split",
    SAME_IN_TWO: "what was trained on must not test: leave it out of one of them",
    NEAR_IN_TWO: "frames of one video on both sides of a split make a test too easy",
}
WORSE: dict[str, Severity] = {
    SAME: "warning", NEAR: "note", SAME_IN_TWO: "warning", NEAR_IN_TWO: "warning"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: in which data set, and its file."""

    data: str
    file: Path


def same_images(places: Sequence[Place], looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Pairs (first, other) of indices with equal pixels; one pair for each other one."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, look in enumerate(looks):
        if look.digest:
            earlier = first.setdefault(look.digest, i)
            if earlier != i and places[earlier] != places[i]:
                pairs.append((earlier, i))
    return pairs


def same_files(places: Sequence[Place]) -> list[tuple[int, int]]:
    """Pairs of indices of one file in two data sets: nothing needs to be read for that."""
    first: dict[Path, int] = {}
    pairs = []
    for i, place in enumerate(places):
        earlier = first.setdefault(place.file, i)
        if places[earlier].data != place.data:
            pairs.append((earlier, i))
    return pairs


def near_images(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Pairs of indices that look alike but are not equal.

    Of equal ones the first stands for all; an image of one colour looks like nothing.
    """
    by_bits: dict[int, list[int]] = defaultdict(list)
    seen: set[bytes] = set()
    for i, look in enumerate(looks):
        if look.thumb and look.digest not in seen:
            seen.add(look.digest)
            by_bits[look.bits].append(i)
    groups = list(by_bits.values())
    pairs = [(i, j) for group in groups for i, j in pairwise(group)]
    numbers = np.array(list(by_bits), np.uint64)
    found = near_pairs(numbers, DISTANCE).tolist()
    pairs += ((groups[a][0], groups[b][0]) for a, b in found)
    thumbs = {i: _normal(looks[i].thumb) for pair in pairs for i in pair}
    return sorted((min(p), max(p)) for p in pairs if thumbs[p[0]] @ thumbs[p[1]] >= ALIKE)


def _normal(thumb: bytes) -> np.ndarray:
    """Of mean 0 and length 1."""
    values = np.frombuffer(thumb, np.uint8).astype(np.float64)
    values -= values.mean()
    return values / np.linalg.norm(values)


def duplicates(
    places: Sequence[Place], same: Sequence[tuple[int, int]], near: Sequence[tuple[int, int]] = ()
) -> Iterator[Finding]:
    """Findings of pairs, by data set; of two data sets the later one is told.

    Args:
        same: of `same_images` or `same_files`.
        near: of `near_images`.
    """
    cases: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for pairs, one, two in ((same, SAME, SAME_IN_TWO), (near, NEAR, NEAR_IN_TWO)):
        for i, j in pairs:
            a, b = places[i], places[j]
            across = a.data != b.data
            where = f"{b.file} is {a.file}" if pairs is same else f"{b.file} is like {a.file}"
            message = f"{where}, of {a.data}" if across else where
            case = Case(message=message, files=(a.file, b.file))
            cases[two if across else one, b.data].append(case)
    for (check, data), found in cases.items():
        yield finding(WORSE[check], check, data, found, advice=ADVICE[check])
