"""HOTA and IDF1: worked by hand, and counted by force from pixels."""

from __future__ import annotations

import pickle
import sys
from itertools import permutations

import numpy as np
import pytest
import torch
from loading import load
from test_tracks import METADATA, MOVING, STILL, random_videos, record_of, result_of, square
from tiny_video import make_videos

from segcore.build.evaluators import evaluators_of
from segcore.data.catalog import Catalog
from segcore.errors import ConfigError
from segcore.evaluation.track_identity import TrackIdentityEvaluator
from segcore.structures import Result, Tracks

ALPHAS = np.arange(1, 20) / 20


def measured(*videos, **options):
    """Videos are pairs of truth and predictions."""
    evaluator = TrackIdentityEvaluator(METADATA, **options)
    for number, (truth, predictions) in enumerate(videos, 1):
        evaluator.update(result_of(predictions), record_of(truth, number))
    return evaluator.compute()


def test_truth_against_itself_is_100():
    truth = [(0, MOVING), (1, [None, *STILL[1:]]), (0, STILL)]
    metrics = measured((truth, [(k, 0.9, shapes) for k, shapes in truth]))
    names = ("HOTA", "DetA", "AssA", "IDF1", "IDP", "IDR")
    rows = ("HOTA-car", "IDF1-car", "HOTA-dog", "IDF1-dog")
    assert metrics == pytest.approx(dict.fromkeys(names + rows, 100))


def test_truth_of_real_videos_against_itself_is_100(shared_data):
    metadata, records = load(str(shared_data / "davis16_clips/val/instances.json"))
    evaluator = TrackIdentityEvaluator(metadata)
    for record in records:
        shapes = [frame.segments[0].shape for frame in record.frames]
        label = torch.tensor([record.frames[0].segments[0].category])
        evaluator.update(Result(tracks=Tracks(torch.tensor([0.5]), label, [shapes])), record)
    metrics = evaluator.compute()
    assert metrics["HOTA"] == metrics["IDF1"] == pytest.approx(100)


def test_an_identity_that_changes_half_way():
    """All masks are right, each of two names has half of them.

    DetA 1. Each match has 2 frames with its name, of 4 true and 2 predicted: 2 / (4 + 2 - 2), so
    AssA 1/2 and HOTA the root of it. One name can be the object's: IDTP 2, IDFN 2, IDFP 2.
    """
    halves = [(0, 0.9, [*MOVING[:2], None, None]), (0, 0.8, [None, None, *MOVING[2:]])]
    metrics = measured(([(0, MOVING)], halves))
    assert metrics["DetA"] == pytest.approx(100) and metrics["AssA"] == pytest.approx(50)
    assert metrics["HOTA"] == pytest.approx(100 * 0.5**0.5)
    assert metrics["IDF1"] == metrics["IDP"] == metrics["IDR"] == pytest.approx(50)


def test_masks_that_are_too_large():
    """100 of 144 pixels, IoU .694: right at .05 to .65, thirteen of nineteen."""
    truth, larger = [square(10, 10, 10)] * 3, [square(9, 9, 12)] * 3
    metrics = measured(([(0, truth)], [(0, 0.9, larger)]))
    assert metrics["HOTA"] == metrics["DetA"] == pytest.approx(100 * 13 / 19)
    assert metrics["IDF1"] == pytest.approx(100)


def test_nothing_predicted_is_0_and_nothing_annotated_is_no_number():
    assert set(measured(([(0, MOVING)], [])).values()) == {0}
    metrics = measured(([(0, [None] * 4)], [(0, 0.9, MOVING)]))
    assert np.isnan([metrics["HOTA"], metrics["IDF1"]]).all() and "HOTA-car" not in metrics


def test_a_class_counts_as_much_as_another_and_videos_add_up():
    """Cars: 4 of 8 masks, of one track each; a dog found by the name of a cow is none."""
    metrics = measured(
        ([(0, MOVING)], [(0, 0.9, MOVING)]),
        ([(0, STILL), (1, MOVING)], [(2, 0.9, MOVING)]),
    )
    # cars: IDTP 4, IDFN 4: 4 / (4 + 2); DetA 4 of 8, AssA 1
    assert metrics["IDF1-car"] == pytest.approx(100 * 2 / 3)
    assert metrics["HOTA-car"] == pytest.approx(100 * 0.5**0.5)
    assert metrics["IDF1-dog"] == metrics["HOTA-dog"] == 0 and "IDF1-cow" not in metrics
    assert metrics["IDF1"] == pytest.approx(100 / 3)


def test_tracks_below_the_threshold_do_not_count():
    truth, found = [(0, MOVING)], [(0, 0.5, MOVING), (0, 0.49, STILL)]
    assert measured((truth, found))["IDF1"] == pytest.approx(100)
    # 4 masks too many: 4 / (4 + 2)
    assert measured((truth, found), threshold=0.4)["IDF1"] == pytest.approx(100 * 2 / 3)
    assert measured((truth, found), threshold=0.6)["IDF1"] == 0


def test_crowds_are_neither_to_be_found_nor_mistakes():
    truth = [(0, MOVING), (0, STILL, True)]
    inside = (0, 0.8, [square(26, 42, 6)] * 4)
    assert measured((truth, [(0, 0.9, MOVING), inside]))["IDF1"] == pytest.approx(100)
    half = (0, 0.8, [square(25, 45)] * 4)  # 5 of 10 columns: not more than half
    other = (1, 0.8, [square(26, 42, 6)] * 4)  # no crowd of dogs; but there are no dogs either
    metrics = measured((truth, [(0, 0.9, MOVING), half, other]))
    assert metrics["IDF1"] == pytest.approx(100 * 2 / 3)
    # what is an object's counts, though it lies in a crowd
    around = [(0, STILL), (0, [square(20, 35, 20)] * 4, True)]
    assert measured((around, [(0, 0.9, STILL)]))["IDF1"] == pytest.approx(100)


def pixel_ious(truth, predictions, t):
    """(G, N) of one frame, pixel by pixel; absent ones have 0."""
    ious = np.zeros((len(truth), len(predictions)))
    for g, one in enumerate(truth):
        for n, other in enumerate(predictions):
            if one[t] is not None and other[t] is not None:
                ious[g, n] = (one[t] & other[t]).sum() / (one[t] | other[t]).sum()
    return ious


def lengths(tracks):
    return np.array([sum(m is not None for m in track) for track in tracks])


def best(fit):
    """Of all ways to give each row a column of its own, or none, the one with the largest sum."""
    rows, columns = fit.shape
    wide = np.concatenate([fit, np.zeros((rows, rows))], axis=1)
    ways = permutations(range(columns + rows), rows)
    way = max(ways, key=lambda w: sum(wide[i, j] for i, j in enumerate(w)))
    return [(i, j) for i, j in enumerate(way) if j < columns and wide[i, j] > 0]


def counted(videos, k):
    """HOTA and IDF1 of a class by force, as the papers define them."""
    right, wrong, missed, kept = np.zeros((4, len(ALPHAS)))
    identity = np.zeros(3)  # right, too many, missed
    for truth, predictions in videos:
        true = [track for c, track, *_ in truth if c == k]
        found = [track for c, _, track in predictions if c == k]
        ious = [pixel_ious(true, found, t) for t in range(len(truth[0][1]))]
        here, there = lengths(true), lengths(found)
        pairs = sum(iou >= 0.5 for iou in ious) if ious else np.zeros((len(true), len(found)))
        same = sum(pairs[g, n] for g, n in best(pairs))
        identity += same, there.sum() - same, here.sum() - same
        together = np.zeros((len(true), len(found)))
        for iou in ious:
            all_of = iou.sum(0) + iou.sum(1)[:, None] - iou
            together += np.divide(iou, all_of, out=np.zeros_like(iou), where=all_of > 0)
        alike = together / np.maximum(here[:, None] + there - together, 1)
        matches = [(g, n, iou[g, n]) for iou in ious for g, n in best(alike * iou)]
        for a, alpha in enumerate(ALPHAS):
            hits = [(g, n) for g, n, iou in matches if iou >= alpha - 1e-9]
            right[a] += len(hits)
            wrong[a] += there.sum() - len(hits)
            missed[a] += here.sum() - len(hits)
            for g, n in hits:
                often = hits.count((g, n))
                kept[a] += often / (here[g] + there[n] - often)
    detection = right / np.maximum(1, right + wrong + missed)
    association = kept / np.maximum(1, right)
    hota = np.sqrt(detection * association).mean()
    return 100 * hota, 100 * identity[0] / (identity[0] + identity[1:].sum() / 2)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_equal_a_count_by_force(seed):
    """Without crowds."""
    videos = [
        ([(k, track) for k, track, *_ in truth], predictions)
        for truth, predictions in random_videos(20 + seed)
    ]
    metrics = measured(*videos, threshold=0)
    classes = [k for k in range(3) if f"HOTA-{METADATA.classes[k]}" in metrics]
    wanted = np.array([counted(videos, k) for k in classes])
    for (hota, identity), k in zip(wanted, classes, strict=True):
        assert metrics[f"HOTA-{METADATA.classes[k]}"] == pytest.approx(hota)
        assert metrics[f"IDF1-{METADATA.classes[k]}"] == pytest.approx(identity)
    assert (metrics["HOTA"], metrics["IDF1"]) == pytest.approx(tuple(wanted.mean(0)))
    assert 5 < metrics["HOTA"] < 95


def test_what_is_held_of_a_video_does_not_grow_with_its_frames():
    sizes = []
    for length in (4, 80):
        evaluator = TrackIdentityEvaluator(METADATA)
        track = STILL[:1] * length
        evaluator.update(result_of([(0, 0.9, track)] * 10), record_of([(0, track)]))
        sizes.append(len(pickle.dumps(evaluator.parts)))
    assert sizes[0] == sizes[1] < 4000


def test_a_data_set_names_it_and_without_trackeval_an_error_does(tmp_path, monkeypatch):
    file = make_videos(tmp_path, (2,))
    file.write_text(file.read_text().replace("track_boundary", "hota"))
    catalog = Catalog(tmp_path, [file])
    metadata = catalog.metadata("tiny_video")
    _, made = evaluators_of(("tracks",), catalog, metadata)
    assert isinstance(made, TrackIdentityEvaluator) and made.threshold == 0.5
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(ConfigError, match=r"segcore\[tracking\]"):
        evaluators_of(("tracks",), catalog, metadata)
