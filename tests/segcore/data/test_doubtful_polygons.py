"""Many polygons at once are held to what `doubt_of` says of each."""

from __future__ import annotations

import marshal

import numpy as np
import pytest

from segcore.data.parsing.doubtful_polygons import doubtful
from segcore.data.parsing.shape_doubts import doubt_of
from segcore.data.parsing.shapes import packed, unpacked

SIZE = (60, 80)  # height, width
SQUARE = [10, 10, 30.5, 10, 30.5, 30, 10, 30]


def stored(value):
    """As it comes back from the bytes of a file that is being read."""
    return marshal.loads(marshal.dumps(packed(value)))


def looked_at(value, area, box):
    sizes = np.array([SIZE])
    return bool(doubtful(sizes, [stored(value)], [area], [box])[0])


def drawn(rng: np.random.Generator):
    """One to three rings anywhere around the image, and an area and a bbox that may be theirs."""
    rings, boxes, area = [], [], 0.0
    center, extent = rng.uniform(-20, 100, 2), rng.choice([0.3, 3, 20])
    for _ in range(rng.integers(1, 4)):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 8))
        points = center + extent * np.stack([np.cos(angles), np.sin(angles)], 1)  # (8, 2)
        rings.append(points.ravel().tolist())
        boxes.append(np.r_[points.min(0), points.max(0)])
        x, y = points.T
        area += float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
    low, high = np.min(boxes, 0)[:2], np.max(boxes, 0)[2:]
    box = np.r_[low + rng.choice([0, 0, 9]), high - low].tolist()
    return rings, rng.choice([area, area, 2.5 * area, 0.4 * area, 0]), box


def test_who_is_passed_over_equals_who_has_nothing_to_be_said_of():
    rng = np.random.default_rng(0)
    many = [drawn(rng) for _ in range(400)]
    values, areas, boxes = zip(*many, strict=True)
    doubts = doubtful(np.array([SIZE] * len(many)), list(map(stored, values)), areas, boxes)
    said = [
        doubt_of(value, unpacked(stored(value)), SIZE, area=area, box=box)
        for value, area, box in many
    ]
    assert not any(s for s, doubted in zip(said, doubts, strict=True) if not doubted)
    assert 20 < (~doubts).sum() < 380


@pytest.mark.parametrize("box", [None, [], [1, 2, 3], ["a", 10, 5, 5], [10**400, 0, 5, 5], "no"])
def test_a_bbox_that_is_none_equals_no_bbox(box):
    area = 20.5 * 20
    assert not looked_at([SQUARE], area, box)
    assert doubt_of([SQUARE], unpacked(stored([SQUARE])), SIZE, area=area, box=box) is None
    assert looked_at([SQUARE], area, [60, 40, 5, 5])


def test_what_is_no_polygon_is_looked_at():
    for value in (
        None,
        [],
        [[1, 2, 3, 4]],
        [SQUARE, [1, 2]],
        [[True, *SQUARE[1:]]],
        {"counts": ""},
    ):
        assert looked_at(value, None, None)
        assert packed(value) is value
    mixed = doubtful(np.array([SIZE] * 3), [None, stored([SQUARE]), None], [None] * 3, [None] * 3)
    assert mixed.tolist() == [True, False, True]


@pytest.mark.parametrize("ring", [[1e8, *SQUARE[1:]], [float("nan"), *SQUARE[1:]], [10**400] * 6])
def test_numbers_that_nobody_draws_stay_as_they_are(ring):
    assert packed([ring]) == [ring] or ring[0] != ring[0]
    assert isinstance(packed([ring]), list)
    assert unpacked(stored([SQUARE])).rings == (tuple(SQUARE),)
