"""YouTube-VIS files: what is read of them, and what is said of faulty ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loading import load
from tiny_video import CATEGORIES, annotation, make_videos, rle_of, scene, write_videos

from segcore import masks
from segcore.build.evaluators import evaluators_of
from segcore.cli.doctor_tables import report_classes
from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.data.formats import youtube_vis
from segcore.data.formats.table import recognised
from segcore.errors import DataError
from segcore.segment_rle import to_rle
from segcore.structures import Polygons


def mask(y=10, x=10):
    square = np.zeros((64, 80), bool)
    square[y : y + 20, x : x + 20] = True
    return square


def pictures(frames=3):
    return scene(np.random.default_rng(0), frames)[0]


def changed(path, change):
    """The file with `change` done to its content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_all_forms_of_masks_and_frames_of_any_name(tmp_path):
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    plain = {"size": [64, 80], "counts": [650, 5, 4465]}
    entry = annotation(5, 1, 7, [mask()] * 3)
    entry["segmentations"] = [rle_of(mask()), square, plain]
    absent = annotation(6, 1, 3, [None, mask(), None], iscrowd=1)
    absent["segmentations"][2] = []  # as some tools write it
    del absent["areas"]
    path = write_videos(tmp_path, {1: pictures(), "two": pictures(1)}, [entry, absent])
    assert recognised(path) is youtube_vis.FORMAT
    metadata, (first, second) = load(str(path))
    assert (metadata.classes, metadata.dataset_ids) == (("box", "disc"), (3, 7))
    assert metadata.evaluators == ("tracks", "track_boundary")
    assert [f.file.name for f in first.frames] == ["frame 0.png", "frame 1.png", "frame 2.png"]
    assert all(f.file.is_file() for f in first.frames)
    assert (second.id, len(second.frames), second.frames[0].segments) == ("two", 1, ())
    disc = [frame.segments[0] for frame in first.frames]
    assert [(s.category, s.track, s.area) for s in disc] == [(1, 0, 400.0)] * 3
    assert isinstance(disc[1].shape, Polygons)
    areas = masks.area(to_rle(s, first.frames[0], first.size) for s in disc)
    assert areas.tolist() == [400, 400, 5]
    assert [len(frame.segments) for frame in first.frames] == [1, 2, 1]
    crowd = first.frames[1].segments[1]
    assert (crowd.crowd, crowd.track, crowd.area, crowd.category) == (True, 1, None, 0)


def test_records_stay_packed_in_a_few_bytes_a_mask(shared_data):
    path = shared_data / "davis16_clips/train/instances.json"
    metadata, records = load(str(path))
    assert len(records) == 8 and records.frames.tolist() == [8] * 8
    assert metadata.classes == ("car", "dog", "person", "hoofed_animal", "two_wheeler")
    content = json.loads(path.read_text())
    texts = sum(len(s["counts"]) for a in content["annotations"] for s in a["segmentations"])
    assert texts < records.nbytes < texts + 64 * 300


def first(content, key, **values):
    """Change the first entry of a list."""
    content[key][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["videos"].append(c["videos"][0]), "video 1 is listed twice"),
        (
            lambda c: c["annotations"][0]["segmentations"].pop(),
            "has 2 segmentations, its video 1 has 3 frames",
        ),
        (lambda c: c["annotations"][0]["areas"].pop(), "has 2 areas, its video 1 has 3 frames"),
        (
            lambda c: first(c, "annotations", category_id=8),
            "annotation 1 of video 1 has category 8",
        ),
        (
            lambda c: first(c, "annotations", video_id=9),
            "annotation 1 belongs to video 9, which is not listed",
        ),
        (lambda c: first(c, "videos", length=4), "has length 4 and 3 file_names"),
        (
            lambda c: first(c, "videos", file_names=["1/frame 0.png", None, "b"]),
            "expected a file name for each frame",
        ),
        (lambda c: first(c, "videos", file_names=[]), "a list of at least one name"),
        (lambda c: first(c, "videos", height=63), "has a mask of size"),
        (
            lambda c: c["annotations"][0]["segmentations"][0].update(counts="55"),
            "run lengths that add up to",
        ),
    ],
)
def test_a_faulty_entry_raises_in_training_and_is_counted_by_the_doctor(tmp_path, change, message):
    entries = [annotation(i, i, 3, [mask()] * 3) for i in (1, 2)]
    path = write_videos(tmp_path, {1: pictures(), 2: pictures()}, entries)
    changed(path, change)
    catalog = Catalog(tmp_path)
    with pytest.raises(DataError, match=message):
        catalog.read(str(path))
    examination = examine(Catalog(tmp_path), str(path))
    said = [p.message for kind in examination.problems.values() for p in kind]
    assert any(message in text for text in said), said
    assert examination.classes[0] >= 3  # the other video is there, whole


def test_a_missing_frame_and_one_of_another_size_are_found(tmp_path):
    videos = {1: pictures(), 2: [*pictures(2), np.zeros((60, 80, 3), np.uint8)]}
    path = write_videos(tmp_path, videos, [annotation(1, 1, 3, [mask()] * 3)])
    (tmp_path / "frames/1/frame 1.png").unlink()
    examination = examine(Catalog(tmp_path), str(path))
    assert dict(examination.counts) == {"file that cannot be read": 1, "size": 1}


@pytest.mark.parametrize("secret", ["absent", "null"])
def test_a_set_without_annotations_is_not_evaluated_and_says_so(tmp_path, secret, caplog):
    catalog = make_videos(tmp_path)

    def hide(content):
        content["annotations"] = None
        if secret == "absent":
            del content["annotations"]

    changed(tmp_path / "videos.json", hide)
    for name, files in (("tiny_video", [catalog]), (str(tmp_path / "videos.json"), [])):
        found = Catalog(tmp_path, files)
        caplog.clear()
        with caplog.at_level("INFO"):
            assert evaluators_of(("tracks",), found, found.metadata(name)) == []
        assert caplog.text.count("has no annotations") == 1
        assert len(found.read(name)) == 4


def test_published_names_need_no_files_for_their_classes(root):
    catalog = Catalog(root)
    for year, first, last in ((2019, "person", "tennis_racket"), (2021, "airplane", "zebra")):
        for split in ("train", "val", "test"):
            metadata = catalog.metadata(f"ytvis_{year}_{split}")
            assert metadata.dataset_ids == tuple(range(1, 41))
            assert (metadata.classes[0], metadata.classes[-1]) == (first, last)
    source = catalog.entry("ytvis_2021_val").source
    assert source.annotations == root / "ytvis_2021/valid.json"
    assert source.images == root / "ytvis_2021/valid/JPEGImages"


def test_eight_lines_of_yaml_with_classes_of_ones_own(tmp_path):
    make_videos(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "reader: youtube_vis\n"
        "evaluators: [tracks]\n"
        "classes:\n"
        "  names: [crate, ball]\n"
        "  ids: [3, 7]\n"
        "names:\n"
        "  mine_train: {images: frames, annotations: videos.json}\n"
    )
    metadata, records = load("mine_train", tmp_path, [tmp_path / "mine.yaml"])
    assert metadata.classes == ("crate", "ball") and len(records) == 4
    assert {c["id"] for c in CATEGORIES} == set(metadata.dataset_ids)


def test_videos_are_counted_as_such(tmp_path, capsys):
    catalog = Catalog(tmp_path, [make_videos(tmp_path, (4, 5, 1))])
    examination = examine(catalog, "tiny_video")
    assert (examination.images, examination.frames) == (3, 10)
    report_classes(examination, catalog.metadata("tiny_video"))
    heading, survey, *_ = capsys.readouterr().out.splitlines()
    assert heading.startswith("tiny_video: 3 videos of 10 frames (0 without a segment), 17 seg")
    assert survey == "tiny_video: 3 videos of 10 frames"
