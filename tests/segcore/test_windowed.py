"""Evaluation of videos in windows: whole tracks, and no more frames at a time than a window has."""

from dataclasses import replace

import pytest
import torch
from loading import load
from tiny_video import make_videos

from segcore import masks
from segcore.build.evaluators import check_test_sets
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.errors import ConfigError
from segcore.structures import Batch
from segcore.windowed import WindowedInference

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windowed")
    make_videos(folder, (5, 1))
    return folder


@pytest.fixture(scope="module")
def task(root, home):
    torch.manual_seed(0)
    cfg = load_config(root / "configs/tiny/video_tiny.yaml")
    made = build_task(cfg, Catalog(home).metadata(str(home / "videos.json")))
    made.model.eval()
    return made


def results_of(task, home, window, overlap):
    """Results of all videos, and how many frames the model saw at a time."""
    seen = []

    def postprocess(outputs, batch):
        seen.append(batch.images.shape[1])
        assert len(batch.records[0].frames) == seen[-1]
        return task.postprocess(outputs, batch)

    infer = WindowedInference(replace(task, postprocess=postprocess), CPU, window, overlap)
    _, records = load(str(home / "videos.json"))
    found = [infer(Batch.collate([task.views(record, None)]))[0] for record in records]
    return found, seen


def test_a_video_in_one_window_has_the_tracks_of_the_whole(task, home):
    found, seen = results_of(task, home, 8, 2)
    assert seen == [5, 1]
    for result, record in zip(found, load(str(home / "videos.json"))[1], strict=True):
        batch = Batch.collate([task.views(record, None)])
        (whole,) = task.postprocess(task.infer(batch, CPU), batch)
        shown = [i for i, t in enumerate(whole.tracks.masks) if masks.area(t).any()]
        assert torch.equal(result.tracks.scores, whole.tracks.scores[shown])
        assert torch.equal(result.tracks.labels, whole.tracks.labels[shown])
        assert result.tracks.masks == [whole.tracks.masks[i] for i in shown]


def test_windows_give_tracks_of_all_frames(task, home):
    found, seen = results_of(task, home, 2, 1)
    assert seen == [2, 2, 2, 2, 1]
    assert {len(track) for track in found[0].tracks.masks} == {5}
    assert {tuple(rle["size"]) for track in found[0].tracks.masks for rle in track} == {(64, 80)}
    assert {len(track) for track in found[1].tracks.masks} == {1}


def test_an_overlap_as_long_as_its_window_raises_before_the_training(root, task, home):
    opts = ["TEST.WINDOW", "4", "TEST.OVERLAP", "4", "DATASETS.TEST", "[]"]
    cfg = load_config(root / "configs/tiny/video_tiny.yaml", opts)
    with pytest.raises(ConfigError, match=r"TEST\.OVERLAP 4 must be less than TEST\.WINDOW 4"):
        check_test_sets(cfg, task, Catalog(home))
