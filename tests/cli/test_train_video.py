"""A whole run on drawn videos: train, evaluate, results as the servers take them."""

import json

import pytest
from tiny_video import make_videos

from segcore.cli import evaluate, measure, train
from segcore.data.catalog import Catalog


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder)
    return folder


def options(home, output, *more):
    catalog = home / "tiny_video.yaml"
    return ["OUTPUT_DIR", str(output), "DATASETS.CATALOGS", f"[{catalog}]", "SEED", "1", *more]


def run(verb, root, opts):
    config = str(root / "configs/tiny/video_tiny.yaml")
    machines = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
    return verb.main(config_file=config, opts=opts, resume=False, **machines)


def test_two_steps_then_tracks_are_evaluated_and_written(home, root, tmp_path, capsys):
    assert run(train, root, options(home, tmp_path, "SOLVER.MAX_ITER", "2")) == 0
    assert "--video-input" in capsys.readouterr().out
    opts = options(home, tmp_path, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))
    assert run(evaluate, root, opts) == 0
    folder = tmp_path / "inference/tiny_video"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"AP", "AP50", "APs", "AR1", "AR10", "boundary AP", "AP-box"} <= metrics.keys()
    results = json.loads((folder / "results.json").read_text())
    records = Catalog(home, [home / "tiny_video.yaml"]).records("tiny_video")
    lengths = {record.id: len(record.frames) for record in records}
    assert {entry["video_id"] for entry in results} == set(lengths)
    for entry in results:
        assert entry.keys() == {"video_id", "score", "category_id", "segmentations"}
        assert entry["category_id"] in (3, 7)
        assert len(entry["segmentations"]) == lengths[entry["video_id"]]
        assert all(rle["size"] == [64, 80] for rle in entry["segmentations"])
    again = tmp_path / "again.json"
    catalogs, file = [home / "tiny_video.yaml"], folder / "results.json"
    named = {"name": "tiny_video", "evaluators": (), "catalogs": catalogs, "output": again}
    assert measure.main(predictions=file, **named) == 0
    assert json.loads(again.read_text()) == metrics


def test_long_videos_are_evaluated_in_windows(home, root, tmp_path):
    assert run(train, root, options(home, tmp_path, "SOLVER.MAX_ITER", "1")) == 0
    weights = ("MODEL.WEIGHTS", str(tmp_path / "model_final.pth"))
    windows = ("TEST.WINDOW", "2", "TEST.OVERLAP", "1")
    assert run(evaluate, root, options(home, tmp_path, *weights, *windows)) == 0
    results = json.loads((tmp_path / "inference/tiny_video/results.json").read_text())
    lengths = {entry["video_id"]: len(entry["segmentations"]) for entry in results}
    assert lengths.items() <= {1: 4, 2: 5, 3: 3, 4: 1}.items() and lengths
