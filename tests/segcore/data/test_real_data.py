"""Real annotation files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loading import load
from pycocotools import mask as coco_mask

from segcore.labels import read_ids, semantic_map
from segcore.segment_rle import to_rle


def test_real_panoptic_data(shared_data):
    folder = shared_data / "coco_panoptic_200"
    metadata, records = load(f"{folder}/annotations/panoptic_train2017.json")
    official, again = load(
        f"{folder}/annotations/panoptic_train2017.json@{folder}/images/train2017"
    )
    assert (len(metadata.classes), sum(metadata.is_thing)) == (133, 80)
    assert metadata.dataset_ids[78:82] == (89, 90, 92, 93)
    assert sum(len(r.frames[0].segments) for r in records) == 1111
    assert list(records) == list(again)
    assert official.classes == metadata.classes
    for record in records[:5]:
        frame = record.frames[0]
        assert frame.file.stem == frame.panoptic.stem
        ids, areas = np.unique(read_ids(frame.panoptic), return_counts=True)
        counted = dict(zip(ids.tolist(), areas.tolist(), strict=True))
        assert {s.shape.id: s.area for s in frame.segments} == {
            i: counted[i] for i in counted if i != 0
        }


def test_real_instances_match_pycocotools(shared_data):
    path = shared_data / "coco_polygons_mini" / "instances.json"
    _, records = load(str(path))
    content = json.loads(path.read_text())
    size = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
    expected = []
    for entry in content["annotations"]:
        parts = coco_mask.frPyObjects(entry["segmentation"], *size[entry["image_id"]])
        rle = coco_mask.merge(parts) if isinstance(parts, list) else parts
        expected.append((entry["image_id"], bytes(rle["counts"])))
    rles = [
        (r.id, bytes(to_rle(s, r.frames[0], r.size)["counts"]))
        for r in records
        for s in r.frames[0].segments
    ]
    assert sorted(rles) == sorted(expected) and len(rles) == 476


@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("nuclei_dsb2018_cc0/annotations/instances_val.json", 54, 1),
        ("dubai_aerial_cc0/labels/val", 8, 5),
        ("dubai_aerial_cc0/hires/panoptic.json", 4, 5),
        ("camvid_480x360/labels/test", 59, 11),
        ("coco_mosaic_hires/panoptic.json", 1, 133),
    ],
)
def test_real_data_by_path(shared_data, name, count, classes):
    metadata, records = load(f"{shared_data}/{name}")
    assert (len(records), len(metadata.classes)) == (count, classes)
    frame = records[-1].frames[0]
    assert frame.file.exists()
    if "labels" in name:
        assert semantic_map(frame, metadata).max() < classes
        assert metadata.colors[0] != metadata.colors[1]
    if "camvid" in name:
        assert metadata.ignore_label == 11
