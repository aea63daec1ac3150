"""Contours: against pixels compared one by one, and by hand."""

from pathlib import Path

import numpy as np
import perturbed
import pytest

from segcore import masks
from segcore.evaluation.contour import RADII, ContourEvaluator, contour, f_scores
from segcore.structures import Frame, Metadata, Record, Result, Segment

TWO = Metadata("two", ("cell", "dust"), (1, 2), (True, True), ((0, 0, 0),) * 2)
SIZE = (60, 80)


def square(y: int, x: int, side: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def edge_pixels(mask: np.ndarray) -> list[tuple[int, int]]:
    H, W = mask.shape
    found = []
    for y in range(H):
        for x in range(W):
            others = [(y, x + 1)] if x + 1 < W else []
            others += [(y + 1, x)] if y + 1 < H else []
            others += [(y + 1, x + 1)] if y + 1 < H and x + 1 < W else []
            if any(mask[other] != mask[y, x] for other in others):
                found.append((y, x))
    return found


def near(a: list[tuple[int, int]], b: list[tuple[int, int]], radius: int) -> float:
    """The share of a that has one of b within a disk."""
    disk = [[(y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in b] for y, x in a]
    return float(np.mean(np.any(disk, axis=1)))


def test_equals_pixels_compared_one_by_one():
    rng = np.random.default_rng(0)
    truth = square(20, 30) | square(25, 40, 14)
    found = np.roll(truth, (1, -2), (0, 1)) & (rng.random(SIZE) < 0.97)
    height, width = 20, 24
    window = (slice(20 - height // 2, 40 + height // 2), slice(30 - width // 2, 54 + width // 2))
    a, b = edge_pixels(found[window]), edge_pixels(truth[window])
    assert sorted(map(tuple, np.argwhere(contour(found[window])).tolist())) == a
    for radius, score in zip(RADII, f_scores(found, truth), strict=True):
        precision, recall = near(a, b, radius), near(b, a, radius)
        assert score == pytest.approx(2 * precision * recall / (precision + recall))
        assert 0.2 < precision < 1


def test_a_mask_that_lies_two_pixels_away():
    # its upper and lower edge lie on the true ones but for two pixels at either end
    one, three, five = f_scores(square(20, 32), square(20, 30))
    assert 0.4 < one < 0.6
    assert three == five == 1
    assert f_scores(square(20, 30), square(20, 30)) == [1, 1, 1]


def test_no_contour():
    full, none = np.ones(SIZE, bool), np.zeros(SIZE, bool)
    assert f_scores(full, full) == [1, 1, 1]  # neither has one: the image's edge is none
    assert f_scores(none, square(20, 30)) == [0, 0, 0]
    assert f_scores(full, square(20, 30)) == [0, 0, 0]


def test_what_lies_outside_the_window_is_not_looked_at():
    far = square(20, 30) | square(0, 75, 3)
    assert f_scores(far, square(20, 30)) == [1, 1, 1]
    close = square(20, 30) | square(20, 55, 3)
    assert f_scores(close, square(20, 30))[0] < 1


def evaluate(truth, found) -> dict[str, float]:
    """Truth is (class, mask, crowd), what is found (class, mask, score)."""
    segments = tuple(Segment(k, masks.encode(mask[None])[0], crowd) for k, mask, crowd in truth)
    evaluator = ContourEvaluator(TWO)
    labels, shapes, scores = [list(column) for column in zip(*found, strict=True)]
    result = Result(instances=perturbed.instances(shapes, labels, scores))
    evaluator.update(result, Record(0, SIZE, (Frame(Path("a.jpg"), segments),)))
    return evaluator.compute()


def test_objects_that_were_found_count_alone():
    a, b = square(5, 5), square(30, 50)
    perfect = {"contour F1px": 100, "contour F3px": 100, "contour F5px": 100}
    both = [(0, a, False), (1, b, False)]
    assert evaluate(both, [(0, a, 0.9), (1, b, 0.1)]) == perfect | {"contour found": 100}
    assert evaluate(both, [(0, a, 0.9), (0, b, 0.9)]) == perfect | {"contour found": 50}
    assert evaluate([(0, a, True), (1, b, False)], [(0, a, 0.9), (1, b, 0.9)]) == perfect | {
        "contour found": 100
    }
    # IoU .5 is enough, whatever the score; the one that fits best is compared
    left = a.copy()
    left[:, 15:] = False
    half = [(0, left, 0.1)]
    assert evaluate([(0, a, False)], half)["contour found"] == 100
    assert evaluate([(0, a, False)], [*half, (0, a, 0.05)]) == perfect | {"contour found": 100}


def test_nothing():
    assert np.isnan(ContourEvaluator(TWO).compute()["contour F1px"])
    lost = evaluate([(0, square(5, 5), False)], [(0, square(40, 50), 0.9)])
    assert lost["contour found"] == 0
    assert np.isnan(lost["contour F3px"])
