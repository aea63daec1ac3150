"""Images of rare classes are seen more often: factors worked by hand, and the stream they make."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from segcore.data.loader import Plan
from segcore.data.repeat_factors import repeat_factors
from segcore.data.store import Records
from segcore.structures import Frame, PngId, Polygons, Record, Segment

TRIANGLE = Polygons(((0.0, 0.0, 4.0, 0.0, 4.0, 4.0),))


def records_of(*classes: list[int]) -> Records:
    return Records(
        Record(i, (8, 8), (Frame(Path("a.jpg"), tuple(Segment(k, TRIANGLE) for k in ks)),))
        for i, ks in enumerate(classes)
    )


def test_factors_worked_by_hand():
    # class 0 is in 2 of 3 images, class 1 in 1 of 3, however often
    records = records_of([0, 1, 1], [0], [])
    assert repeat_factors(records, 0.5) == pytest.approx([np.sqrt(0.5 * 3), 1, 1])
    assert repeat_factors(records, 0.5, square_root=False) == pytest.approx([1.5, 1, 1])
    assert repeat_factors(records, 1.0) == pytest.approx([np.sqrt(3), np.sqrt(1.5), 1])
    assert repeat_factors(records, 0.0) == pytest.approx([1, 1, 1])


def test_the_classes_of_a_record_are_those_of_all_its_frames():
    frames = (
        Frame(Path("a.png"), (Segment(3, PngId(7), crowd=True), Segment(3, TRIANGLE))),
        Frame(Path("b.png"), (Segment(1, {"size": [8, 8], "counts": b"0"}),)),
    )
    records = Records([Record(0, (8, 8), frames), Record(1, (8, 8), ())])
    assert list(records.classes()) == [{1, 3}, set()]
    assert list(records.take(np.array([1, 0])).classes()) == [set(), {1, 3}]


def test_what_is_known_of_absent_classes_is_packed():
    record = Record(0, (8, 8), (Frame(Path("a.jpg")),), negatives=(3, 1), not_exhaustive=(2,))
    assert Records([record])[0] == record


def plan(**options) -> Plan:
    return Plan(count=10, batch_size=2, seed=3, **options)


def seen(count: int, repeats: np.ndarray | None, rank: int = 0, world_size: int = 1):
    made = plan(rank=rank, world_size=world_size, repeats=repeats)
    return list(islice(made.stream(), count))


def test_each_record_is_seen_as_often_as_its_factor_says():
    repeats = np.array([1, 1, 1, 1, 1, 1, 1, 2, 1.25, 3.5])
    number = 400  # epochs, of 14.75 records in the mean
    counts = Counter(index for _, index in seen(int(number * repeats.sum()), repeats))
    assert [counts[i] / number for i in range(8)] == pytest.approx(repeats[:8], abs=0.02)
    # the halves are drawn: 4 standard deviations of a mean of 400 coins
    assert [counts[i] / number for i in (8, 9)] == pytest.approx(repeats[8:], abs=4 * 0.5 / 20)


def test_an_epoch_is_complete_and_shuffled():
    repeats = np.array([1.0] * 9 + [3.0])
    epochs = [[index for _, index in seen(36, repeats)[i : i + 12]] for i in (0, 12, 24)]
    for epoch in epochs:
        assert sorted(epoch) == [*range(9), 9, 9, 9]
    assert epochs[0] != epochs[1] != epochs[2]


def test_ranks_share_the_stream_and_factors_of_one_change_no_count():
    repeats = np.linspace(1, 3, 10)
    whole = seen(90, repeats)
    for rank in range(3):
        assert seen(30, repeats, rank, 3) == whole[rank::3]
    ones = [index for _, index in seen(40, np.ones(10))]
    assert [sorted(ones[i : i + 10]) for i in (0, 10, 20, 30)] == [list(range(10))] * 4


def test_batches_of_one_kind_take_repeats():
    repeats, wide = np.linspace(1, 3, 10), [i % 2 == 0 for i in range(10)]
    batches = list(islice(plan(wide=wide, repeats=repeats).batches(), 40))
    assert all(len({wide[index] for _, index in batch}) == 1 for batch in batches)
    places = sorted(place for batch in batches for place, _ in batch)
    assert dict(seen(90, repeats)).items() >= {
        (place, index) for batch in batches for place, index in batch
    }
    assert len(set(places)) == 80
