"""Tracks in a file are measured as those of a model are."""

import json

import pytest
from loading import load
from tiny import make_dataset
from tiny_video import make_videos

from segcore import masks
from segcore.cli import measure
from segcore.errors import ConfigError, DataError
from segcore.predictions.track_results import read_track_results


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracks")
    make_videos(folder)
    return folder


def perfect(home):
    """The truth as results, where nobody is null, worst first."""
    metadata, records = load("tiny_video", files=[home / "tiny_video.yaml"])
    rows = {}
    for record in records:
        for t, frame in enumerate(record.frames):
            for segment in frame.segments:
                row = {"video_id": record.id, "score": 0.6 + segment.track / 10}
                row |= {"category_id": metadata.dataset_ids[segment.category]}
                row |= {"segmentations": [None] * len(record.frames)}
                row = rows.setdefault((record.id, segment.track), row)
                row["segmentations"][t] = masks.to_text(segment.shape)
    return list(rows.values())


def measured(home, tmp_path, content, *evaluators, name="tiny_video"):
    path, output = tmp_path / "results.json", tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    status = measure.main(
        predictions=path,
        name=name,
        evaluators=evaluators,
        catalogs=[home / "tiny_video.yaml"],
        output=output,
    )
    assert status == 0
    return json.loads(output.read_text())


def test_the_truth_as_results_is_100(home, tmp_path, capsys):
    rows = perfect(home)
    metrics = measured(home, tmp_path, rows)
    assert metrics["AP"] == metrics["boundary AP"] == pytest.approx(100)
    assert "tiny_video" in capsys.readouterr().out
    metrics = measured(home, tmp_path, rows, "hota")
    assert metrics["HOTA"] == metrics["IDF1"] == pytest.approx(100) and "AP" not in metrics
    # a video without predictions has missed all of its objects
    some = [row for row in rows if row["video_id"] != 1]
    boxes = [row["segmentations"] for row in rows if row["category_id"] == 3]
    frames = sum(len(each) for each in boxes)
    lost = measured(home, tmp_path, some, "hota")
    assert lost["HOTA-box"] == pytest.approx(100 * ((frames - 4) / frames) ** 0.5)


def test_videos_that_the_data_set_lacks(home, tmp_path, caplog):
    rows = perfect(home)
    other = [row | {"video_id": "99"} for row in rows[:2]]
    assert measured(home, tmp_path, rows + other, "tracks")["AP"] == pytest.approx(100)
    assert "1 of 5 videos are not in tiny_video" in caplog.text
    with pytest.raises(DataError, match=r"none of its 1 videos is in tiny_video \(it has '99'"):
        measured(home, tmp_path, other)


def test_mistakes_raise(home, tmp_path):
    metadata, records = load("tiny_video", files=[home / "tiny_video.yaml"])
    first, path = perfect(home)[0], tmp_path / "results.json"
    rle = first["segmentations"][0]
    for changed, message in (
        ({"category_id": 5}, r"results\.json: entry 0 has category 5; tiny_video knows 2"),
        ({"score": None}, "entry 0 has score None; expected a number"),
        ({"segmentations": [rle]}, "entry 0 has 1 segmentations, video 1 has 4 frames"),
        ({"segmentations": [rle | {"counts": "0"}] * 4}, r"frame 0 of entry 0 has .*expected heig"),
        ({"segmentations": [[1, 2, 3, 4]] * 4}, "frame 0 of entry 0 has a segmentation that is no"),
        ({"segmentations": [{"size": [2, 2], "counts": "04"}] * 4}, r"size \(2, 2\), video 1 is"),
    ):
        path.write_text(json.dumps([first | changed]))
        with pytest.raises(DataError, match=message):
            read_track_results(path).of(records[0], metadata)
    with pytest.raises(DataError, match="is a folder"):
        read_track_results(tmp_path)
    with pytest.raises(ConfigError, match="by tracks, instance; predictions in files are tracks"):
        measured(home, tmp_path, [first], "tracks", "instance")


def test_files_of_another_kind_raise(home, tmp_path):
    image = {"image_id": 1, "category_id": 3, "score": 1, "segmentation": {}}
    for content, message in (
        ([image], r"entry 0 is of an image \(image_id\); expected tracks of videos"),
        (json.loads((home / "videos.json").read_text()), "is an annotation file .*video_id"),
        ({"tracks": [], "file_name": "a.mp4"}, "the tracks of one video as segcore predict"),
        ({"a": 1}, r"has dict at the top; expected predictions: a list of {video_id"),
    ):
        with pytest.raises(DataError, match=message):
            measured(home, tmp_path, content)
    catalog = make_dataset(tmp_path, 1)
    results = tmp_path / "tracks.json"
    results.write_text(json.dumps(perfect(home)))
    with pytest.raises(DataError, match=r"entry 0 is of a video \(video_id\); expected instances"):
        measure.main(
            predictions=results,
            name="tiny_instances",
            evaluators=(),
            catalogs=[catalog],
            output=None,
        )


def test_without_annotations_there_is_nothing_to_measure_by(home, tmp_path):
    content = json.loads((home / "videos.json").read_text())
    del content["annotations"]
    (home / "unknown.json").write_text(json.dumps(content))
    name = f"{home / 'unknown.json'}@{home / 'frames'}"
    with pytest.raises(DataError, match="has no annotations: there is nothing to measure"):
        measured(home, tmp_path, perfect(home), name=name)
