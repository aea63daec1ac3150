"""Data sets at rest."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from segcore.data.store import Records
from segcore.structures import Frame, PngId, Polygons, Record, Segment

SHAPES = [
    Polygons(((0.1, 2.25, 1 / 3, 4.0, -1.5, 6e9), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))),
    Polygons(((510.66, 423.01, 511.72, 420.03, -0.0, 641.13),)),
    {"size": [4, 6], "counts": b"012"},
    PngId(16_777_215),
]


def a_record(i):
    segments = tuple(
        Segment(k, shape, crowd=bool(k % 2), area=None if k else 12.5, track=k or None)
        for k, shape in enumerate(SHAPES)
    )
    frames = (
        Frame(Path("a b/é.jpg"), segments),
        Frame(Path("c.jpg"), segments[2:], Path("p.png"), Path("s.png")),
    )
    return Record(f"name{i}" if i else 0, (4 + i, 6), frames)


def test_records_come_back_as_they_went_in():
    given = [a_record(i) for i in range(5)] + [Record(9, (1, 1), (Frame(Path("x")),))]
    records = Records(given)
    assert list(records) == given
    assert list(pickle.loads(pickle.dumps(records))) == given  # as for a spawned worker
    assert records[-1] == given[-1]
    assert records[1:5:2] == given[1:5:2]
    assert records.sizes[2].tolist() == [6, 6]
    assert records.usable.tolist() == [True] * 5 + [False]
    with pytest.raises(IndexError):
        records[6]


def test_records_are_chosen_and_joined_without_unpacking():
    given = [a_record(i) for i in range(4)]
    records = Records(given)
    joined = Records.join([records.take(np.array([3, 1])), Records(), Records(given[:1])])
    assert list(joined) == [given[3], given[1], given[0]]
    assert joined.sizes.tolist() == [[7, 6], [5, 6], [4, 6]]
    assert list(joined.take(joined.sizes[:, 0] > 4)) == [given[3], given[1]]
    assert len(Records()) == len(list(Records())) == 0


def test_records_are_not_python_objects():
    ring = tuple(float(v) / 100 for v in range(1000))
    record = Record(1, (9, 9), (Frame(Path("x.jpg"), (Segment(0, Polygons((ring,))),)),))
    assert Records([record] * 10).nbytes < 10 * 4300  # four bytes a coordinate
