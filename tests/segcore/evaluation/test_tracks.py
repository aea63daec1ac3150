"""AP of tracks: worked by hand, counted by force, and by pycocotools with the IoU of tracks."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import load
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segcore import masks
from segcore.errors import DataError
from segcore.evaluation.predictions import Predictions
from segcore.evaluation.track_ap import AREAS, LIMITS, RECALLS, THRESHOLDS, track_tables
from segcore.evaluation.tracks import TrackEvaluator
from segcore.structures import Frame, Metadata, Record, Result, Segment, Tracks

SIZE = (40, 60)
NAMES = ("car", "dog", "cow")
METADATA = Metadata("videos", NAMES, (3, 7, 9), (True,) * 3, ((0, 0, 0),) * 3)


def square(y, x, side=10):
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def record_of(tracks, number=1, frames=None):
    """Tracks are (class, [mask or None a frame]) and perhaps whether it is a crowd."""
    length = len(tracks[0][1]) if tracks else frames
    shown = [[] for _ in range(length)]
    for i, (label, shapes, *crowd) in enumerate(tracks):
        for t, mask in enumerate(shapes):
            if mask is not None:
                rle = masks.encode(mask[None])[0]
                shown[t].append(Segment(label, rle, bool(crowd), float(mask.sum()), i))
    files = (Frame(Path(f"{number}/{t}.png"), tuple(s)) for t, s in enumerate(shown))
    return Record(number, SIZE, tuple(files))


def result_of(tracks):
    """Predictions are (class, score, [mask or None a frame])."""
    nothing = np.zeros(SIZE, bool)
    rles = [masks.encode(np.stack([nothing if m is None else m for m in t])) for _, _, t in tracks]
    scores = torch.tensor([score for _, score, _ in tracks], dtype=torch.float32)
    labels = torch.tensor([label for label, _, _ in tracks], dtype=torch.int64)
    return Result(tracks=Tracks(scores, labels, rles))


def measured(*videos, kinds=("tracks",)):
    """Videos are pairs of truth and predictions."""
    evaluator = TrackEvaluator(METADATA, kinds=kinds)
    for number, (truth, predictions) in enumerate(videos, 1):
        evaluator.update(result_of(predictions), record_of(truth, number))
    return evaluator.compute()


MOVING = [square(5, 5 + 4 * t) for t in range(4)]
STILL = [square(25, 40)] * 4


def test_truth_against_itself_is_100():
    truth = [(0, MOVING), (1, [None, *STILL[1:]]), (2, STILL)]
    metrics = measured(
        (truth, [(k, 0.9, shapes) for k, shapes in truth]),
        kinds=("tracks", "track_boundary"),
    )
    assert {name: round(value, 6) for name, value in metrics.items() if value == value} == {
        prefix + name: 100.0
        for prefix in ("", "boundary ")
        for name in ("AP", "AP50", "AP75", "APs", "AR1", "AR10", "AP-car", "AP-dog", "AP-cow")
    }
    assert np.isnan(metrics["APm"]) and np.isnan(metrics["boundary APl"])


def test_truth_of_real_videos_against_itself_is_100(shared_data):
    metadata, records = load(str(shared_data / "davis16_clips/val/instances.json"))
    evaluator = TrackEvaluator(metadata, kinds=("tracks", "track_boundary"))
    for record in records:
        shapes = [frame.segments[0].shape for frame in record.frames]
        label = torch.tensor([record.frames[0].segments[0].category])
        evaluator.update(Result(tracks=Tracks(torch.tensor([0.5]), label, [shapes])), record)
    metrics = evaluator.compute()
    for name in ("AP", "AP75", "AR1", "boundary AP", "AP-car", "AP-two_wheeler"):
        assert metrics[name] == pytest.approx(100)
    assert "AP-person" not in metrics  # of whom there is none


def test_a_track_that_is_split_in_two():
    """Each half is an IoU of 1/2: right at .5 alone, where one of them is the surplus one."""
    halves = [(0, 0.9, [*MOVING[:2], None, None]), (0, 0.8, [None, None, *MOVING[2:]])]
    metrics = measured(([(0, MOVING)], halves))
    assert metrics["AP50"] == pytest.approx(100) and metrics["AP75"] == 0
    assert metrics["AP"] == pytest.approx(10)
    assert metrics["AR1"] == metrics["AR10"] == pytest.approx(10)


def test_three_quarters_of_a_track():
    """IoU 3/4: right at .5, .55 ... .75, six of ten."""
    metrics = measured(([(0, MOVING)], [(0, 0.9, [*MOVING[:3], None])]))
    assert metrics["AP"] == pytest.approx(60) and metrics["AP75"] == pytest.approx(100)


def test_two_tracks_that_are_merged_into_one():
    """An IoU of 1/2 with each: one of two is found, at .5 alone: half of the recall levels."""
    both = [a | b for a, b in zip(MOVING, STILL, strict=True)]
    metrics = measured(([(0, MOVING), (0, STILL)], [(0, 0.9, both)]))
    # recall 1/2 at precision 1: the levels 0, .01 ... .5 are 51 of 101
    assert metrics["AP50"] == pytest.approx(100 * 51 / 101)
    assert metrics["AP"] == pytest.approx(10 * 51 / 101)
    assert metrics["AR10"] == pytest.approx(100 * 0.5 / 10)


def test_two_tracks_that_change_places_half_way():
    """Each overlaps its own object in two of four frames: 2 of 6 frames' pixels, IoU 1/3."""
    swapped = [
        (0, 0.9, [*MOVING[:2], *STILL[2:]]),
        (0, 0.8, [*STILL[:2], *MOVING[2:]]),
    ]
    assert measured(([(0, MOVING), (0, STILL)], swapped))["AP"] == 0
    late = [(0, 0.9, [*MOVING[:3], STILL[3]]), (0, 0.8, [*STILL[:3], MOVING[3]])]
    # 3 of 5: IoU .6, right at .5, .55, .6
    assert measured(([(0, MOVING), (0, STILL)], late))["AP"] == pytest.approx(30)


def test_the_order_of_frames_counts():
    metrics = measured(([(0, MOVING)], [(0, 0.9, MOVING[::-1])]))
    # ten columns that move by four: overlaps of 0, 6, 6 and 0 columns
    assert metrics["AP50"] == 0
    truth = [(0, MOVING[:1] * 4)]
    assert measured((truth, [(0, 0.9, MOVING[:1] * 4)]))["AP"] == pytest.approx(100)


def test_crowds_are_neither_to_be_found_nor_mistakes():
    truth = [(0, MOVING), (0, STILL, True)]
    found = [(0, 0.9, STILL), (0, 0.8, MOVING), (0, 0.7, STILL)]
    assert measured((truth, found))["AP"] == pytest.approx(100)


def test_the_area_of_a_track_is_the_mean_where_it_shows(monkeypatch):
    """With ranges that fit the drawings: 100 pixels are small, 225 are medium, 400 large."""
    ranges = ((0, 1e5**2), (0, 128), (128, 256), (256, 1e5**2))
    monkeypatch.setattr("segcore.evaluation.track_ap.AREAS", ranges)
    changing = [square(0, 0, 10), None, square(0, 0, 18), None]  # (100 + 324) / 2 = 212
    metrics = measured(([(0, changing), (1, STILL)], [(0, 0.9, changing), (1, 0.3, MOVING)]))
    assert metrics["APm"] == pytest.approx(100) and metrics["APs"] == 0
    assert np.isnan(metrics["APl"])


def test_a_boundary_counts_where_the_inside_is_easy():
    """A square that is one pixel too large on each side: 100 of 144, but half of its edge."""
    evaluator = TrackEvaluator(METADATA, kinds=("tracks", "track_boundary"))
    truth, larger = [square(10, 10, 10)] * 2, [square(9, 9, 12)] * 2
    evaluator.update(result_of([(0, 0.9, larger)]), record_of([(0, truth)]))
    ious = evaluator.parts[0].ious
    assert ious["tracks"] == pytest.approx(100 / 144)
    # diagonal 72.1, 2 % of it: 1 pixel; rings of 36 and 44 pixels that do not meet
    assert ious["track_boundary"] == 0
    metadata = replace(METADATA, boundary_dilation=0.04)
    wide = TrackEvaluator(metadata, kinds=("tracks", "track_boundary"))
    wide.update(result_of([(0, 0.9, larger)]), record_of([(0, truth)]))
    # 3 pixels: rings of 100 - 16 and 144 - 36, which share 10 x 10 - 6 x 6
    assert wide.parts[0].ious["track_boundary"] == pytest.approx(64 / (84 + 108 - 64))


def shifted(mask, rng):
    return None if mask is None else np.roll(mask, int(rng.integers(0, 3)), 1)


def random_videos(seed, count=6):
    """Truth, and predictions that are truth made worse, strangers, doubles, with equal scores."""
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(count):
        frames = int(rng.integers(1, 6))

        def track(frames=frames):
            y, x, side = rng.integers(0, 25), rng.integers(0, 40), rng.integers(3, 20)
            gone = rng.random(frames) < 0.2
            gone[rng.integers(frames)] = False
            return [None if g else square(y, x + t, side) for t, g in enumerate(gone)]

        truth = [
            (int(rng.integers(3)), track(), *([True] if rng.random() < 0.15 else []))
            for _ in range(rng.integers(0, 5))
        ]
        if not truth:
            truth = [(0, [None] * frames)]
        predictions = [
            (k, round(float(rng.random()), 1), [shifted(mask, rng) for mask in shapes])
            for k, shapes, *_ in truth
            for _ in range(rng.integers(0, 3))
        ]
        predictions += [
            (int(rng.integers(3)), round(float(rng.random()), 1), track())
            for _ in range(rng.integers(0, 3))
        ]
        videos.append((truth, predictions))
    return videos


def forced_iou(truth, prediction):
    """Pixel by pixel."""
    nothing = np.zeros(SIZE, bool)
    a, b = (np.stack([nothing if m is None else m for m in t]) for t in (truth, prediction))
    return (a & b).sum() / max(1, (a | b).sum())


def mean_area(track):
    areas = [m.sum() for m in track if m is not None and m.any()]
    return float(np.mean(areas)) if areas else 0.0


class TrackOracle(COCOeval):
    """pycocotools, with videos in the place of images and the IoUs that it is given."""

    def computeIoU(self, imgId, catId):
        true, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-d["score"] for d in found], kind="mergesort")
        found = [found[i] for i in order][: self.params.maxDets[-1]]
        if not true or not found:
            return []
        return np.array([[forced_iou(g["track"], d["track"]) for g in true] for d in found])


def oracle(videos):
    images = [{"id": i} for i in range(1, len(videos) + 1)]
    content = ([], [])
    for i, (truth, predictions) in enumerate(videos, 1):
        for k, track, *crowd in truth:
            if any(m is not None for m in track):
                entry = {"image_id": i, "category_id": k, "track": track, "bbox": [0, 0, 1, 1]}
                entry |= {"area": mean_area(track), "iscrowd": len(crowd)}
                content[0].append(entry | {"id": len(content[0]) + 1})
        for k, score, track in predictions:
            entry = {"image_id": i, "category_id": k, "track": track, "bbox": [0, 0, 1, 1]}
            entry |= {"area": mean_area(track), "score": float(np.float32(score)), "iscrowd": 0}
            content[1].append(entry | {"id": len(content[1]) + 1})
    categories = [{"id": k, "name": str(k)} for k in range(3)]
    with contextlib.redirect_stdout(io.StringIO()):
        pair = []
        for annotations in content:
            coco = COCO()
            coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
            coco.createIndex()
            pair.append(coco)
        evaluation = TrackOracle(*pair, iouType="bbox")
        evaluation.params.areaRng = [list(area) for area in AREAS]
        evaluation.params.maxDets = list(LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval


def tables_of(videos, monkeypatch):
    """With ranges of areas that fit the drawings."""
    ranges = ((0, 1e5**2), (0, 60), (60, 150), (150, 1e5**2))
    for module in ("segcore.evaluation.track_ap", __name__):
        monkeypatch.setattr(f"{module}.AREAS", ranges)
    evaluator = TrackEvaluator(METADATA)
    for number, (truth, predictions) in enumerate(videos, 1):
        evaluator.update(result_of(predictions), record_of(truth, number))
    return track_tables(evaluator.parts, 3, "tracks")


@pytest.mark.parametrize("seed", range(6))
def test_tables_equal_those_of_pycocotools_with_the_iou_of_tracks(seed, monkeypatch):
    videos = random_videos(seed)
    precision, recall = tables_of(videos, monkeypatch)
    wanted = oracle(videos)
    assert (precision[..., 1:] > 0).any()
    assert np.allclose(precision, wanted["precision"][..., -1], atol=1e-12)
    assert np.allclose(recall, wanted["recall"], atol=1e-12)


def counted(videos, k, threshold):
    """AP of a class by force: at every cut of the scores, matching begins anew."""
    scores = sorted({float(np.float32(s)) for _, p in videos for c, s, _ in p if c == k})
    objects = sum(c == k for t, _ in videos for c, _ in t)
    points = []
    for cut in scores:
        right = wrong = 0
        for truth, predictions in videos:
            free = [track for c, track in truth if c == k]
            kept = [(s, t) for c, s, t in predictions if c == k and np.float32(s) >= cut]
            for _, track in sorted(kept, key=lambda each: -each[0]):
                ious = [forced_iou(other, track) for other in free]
                if ious and max(ious) >= threshold:
                    free.pop(int(np.argmax(ious)))
                    right += 1
                else:
                    wrong += 1
        points.append((right / objects, right / max(1, right + wrong)))
    levels = [max((p for r, p in points if r >= level), default=0) for level in RECALLS]
    return float(np.mean(levels))


def test_tables_equal_a_count_by_force(monkeypatch):
    """Without crowds, and with scores that all differ."""
    rng = np.random.default_rng(8)
    videos = [
        (
            [track[:2] for track in truth],
            [(k, float(rng.random()), track) for k, _, track in predictions],
        )
        for truth, predictions in random_videos(8, 12)
        if any(mask is not None for _, track, *_ in truth for mask in track)
    ]
    precision, _ = tables_of(videos, monkeypatch)
    for k in range(3):
        for t, threshold in enumerate(THRESHOLDS):
            ours = precision[t, :, k, 0].mean()
            assert ours == pytest.approx(counted(videos, k, threshold), abs=1e-9)
    assert 0.1 < precision[0, :, :, 0].mean() < 0.9


def test_what_is_held_of_a_video_does_not_grow_with_its_frames():
    sizes = []
    for length in (4, 80):
        evaluator = TrackEvaluator(METADATA, kinds=("tracks", "track_boundary"))
        track = STILL[:1] * length
        evaluator.update(result_of([(0, 0.9, track)] * 10), record_of([(0, track)]))
        sizes.append(len(pickle.dumps(evaluator.parts)))
    assert sizes[0] == sizes[1] < 4000


def test_predictions_of_another_length_or_size_raise():
    evaluator = TrackEvaluator(METADATA)
    record = record_of([(0, MOVING)])
    with pytest.raises(DataError, match="has 3 masks"):
        evaluator.update(result_of([(0, 0.9, MOVING[:3])]), record)
    other = Result(tracks=Tracks(
        torch.ones(1), torch.zeros(1, dtype=torch.int64),
        [masks.encode(np.zeros((4, 8, 8), bool))],
    ))  # fmt: skip
    with pytest.raises(DataError, match="expected the same"):
        evaluator.update(other, record)


def test_the_results_file_is_what_servers_take(tmp_path):
    write = Predictions(tmp_path, METADATA)
    write(result_of([(2, 0.75, MOVING), (0, 0.5, [None, *STILL[1:]])]), record_of([], 5, frames=4))
    write(result_of([]), record_of([], 6, frames=1))
    write.join()
    first, second = json.loads((tmp_path / "results.json").read_text())
    assert (first["video_id"], first["category_id"], first["score"]) == (5, 9, 0.75)
    assert second["category_id"] == 3 and len(second["segmentations"]) == 4
    for entry, track in ((first, MOVING), (second, [np.zeros(SIZE, bool), *STILL[1:]])):
        read = [masks.decode(rle) for rle in entry["segmentations"]]
        assert np.array_equal(np.stack(read), np.stack(track))
