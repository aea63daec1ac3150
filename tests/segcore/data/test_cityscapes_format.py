"""Cityscapes from its own files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore.errors import DataError
from segcore.labels import semantic_map


@pytest.fixture
def cityscapes(tmp_path):
    """Road, two cars, a group of cars, and what is not evaluated."""
    ids = np.full((8, 12), 7, np.uint16)
    ids[:2], ids[4:6, :4], ids[4:6, 4:8], ids[6:, :6] = 3, 26000, 26001, 26
    root = tmp_path / "cityscapes"
    for split in ("train", "val", "test"):
        images, truth = (root / f / split / "ulm" for f in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        Image.new("RGB", (12, 8)).save(images / "ulm_000_019_leftImg8bit.png")
        if split == "test":
            continue
        truth.mkdir(parents=True)
        Image.fromarray(ids).save(truth / "ulm_000_019_gtFine_instanceIds.png")
        labels = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
        Image.fromarray(labels).save(truth / "ulm_000_019_gtFine_labelIds.png")
    return tmp_path


def summary(metadata, record):
    return [
        (metadata.classes[s.category], s.shape.id, s.crowd, s.area)
        for s in record.frames[0].segments
    ]


THINGS = [("car", 26, True, 12.0), ("car", 26000, False, 8.0), ("car", 26001, False, 8.0)]


def test_cityscapes_from_its_own_files(cityscapes):
    metadata, records = load("cityscapes_fine_instance_seg_train", cityscapes)
    assert summary(metadata, records[0]) == THINGS
    assert records[0].size == (8, 12)
    metadata, records = load("cityscapes_fine_panoptic_val", cityscapes)
    assert summary(metadata, records[0]) == [("road", 7, False, 44.0), *THINGS]
    truth = semantic_map(records[0].frames[0], metadata)
    metadata, records = load("cityscapes_fine_sem_seg_val", cityscapes)
    assert np.array_equal(semantic_map(records[0].frames[0], metadata), truth)
    assert truth[0, 0] == -1 and metadata.classes[truth[4, 0]] == "car"


def test_cityscapes_test_split_has_no_truth(cityscapes):
    for name in ("cityscapes_fine_instance_seg_test", "cityscapes_fine_sem_seg_test"):
        _, records = load(name, cityscapes)
        assert [r.id for r in records] == ["ulm_000_019"]


def test_cityscapes_panoptic_files_are_used_where_they_are(cityscapes):
    folder = cityscapes / "cityscapes" / "gtFine" / "cityscapes_panoptic_val"
    folder.mkdir()
    segments = [{"id": 26000, "category_id": 26, "iscrowd": 0, "area": 8}]
    name = "ulm_000_019_gtFine_panoptic.png"
    content = {
        "images": [{"id": "ulm_000_019", "file_name": "unused", "height": 8, "width": 12}],
        "annotations": [{"image_id": "ulm_000_019", "file_name": name, "segments_info": segments}],
    }
    folder.with_suffix(".json").write_text(json.dumps(content))
    metadata, records = load("cityscapes_fine_panoptic_val", cityscapes)
    assert summary(metadata, records[0]) == [("car", 26000, False, 8)]
    assert records[0].frames[0].panoptic == folder / name
    assert records[0].frames[0].file.exists() and records[0].frames[0].semantic.exists()


def test_missing_folders_raise(cityscapes):
    with pytest.raises(DataError, match=r"leftImg8bit.* not found.*DETECTRON2_DATASETS"):
        load("cityscapes_fine_sem_seg_val", cityscapes / "nowhere")
    image = next((cityscapes / "cityscapes/leftImg8bit/val").glob("*/*"))
    image.rename(image.with_name("x.png"))
    with pytest.raises(DataError, match="has no CITY/"):
        load("cityscapes_fine_sem_seg_val", cityscapes)
