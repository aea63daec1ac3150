"""The preparation scripts, on a data set of two images."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from loading import load
from PIL import Image
from pycocotools import mask as coco_mask

from segcore.labels import read_ids, read_png, semantic_map

WALL, BED, PERSON = 1, 8, 13  # in the label images; 0 is other


@pytest.fixture
def ade(tmp_path):
    """A wall, a bed of two instances, a person; the bed's labels and instances disagree a bit."""
    root = tmp_path / "ADEChallengeData2016"
    semantic = np.full((12, 16), WALL, np.uint8)
    semantic[:2] = 0
    semantic[6:, :8], semantic[6:, 8:] = BED, PERSON
    instance = np.zeros((12, 16, 3), np.uint8)
    instance[5:, :4] = (1, 1, 0)  # category 1 is the bed; one row hides the wall
    instance[6:, 4:8] = (1, 2, 0)
    instance[6:, 8:] = (4, 3, 0)
    for split in ("training", "validation"):
        for folder, pixels, suffix in (
            ("images", np.zeros((12, 16, 3), np.uint8), "jpg"),
            ("annotations", semantic, "png"),
            ("annotations_instance", instance, "png"),
        ):
            (root / folder / split).mkdir(parents=True)
            Image.fromarray(pixels).save(root / folder / split / f"ADE_1.{suffix}")
    return tmp_path


def prepare(root, folder, name, *flags):
    command = [sys.executable, folder / "datasets" / f"prepare_{name}.py", *flags]
    env = os.environ | {"DETECTRON2_DATASETS": str(root)}
    return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, timeout=60)


def test_ade20k_semantic(ade, root):
    assert prepare(ade, root, "ade20k_sem_seg", "--workers", "1").returncode == 0
    metadata, records = load("ade20k_sem_seg_val", ade)
    truth = semantic_map(records[0].frames[0], metadata)
    assert truth[:2].max() == -1
    assert [metadata.classes[k] for k in np.unique(truth[2:])] == ["wall", "bed", "person"]


def test_ade20k_instances(ade, root):
    assert prepare(ade, root, "ade20k_ins_seg", "--workers", "1").returncode == 0
    metadata, records = load("ade20k_instance_train", ade)
    found = records[0].frames[0].segments
    assert [metadata.classes[s.category] for s in found] == ["bed", "bed", "person"]
    assert [s.area for s in found] == [28, 24, 48]
    assert coco_mask.area([s.shape for s in found]).tolist() == [28, 24, 48]
    content = json.loads((ade / "ADEChallengeData2016/ade20k_instance_train.json").read_text())
    assert content["annotations"][0]["bbox"] == [0, 5, 4, 7]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]


def test_ade20k_panoptic(ade, root):
    assert prepare(ade, root, "ade20k_sem_seg", "--workers", "1").returncode == 0
    assert prepare(ade, root, "ade20k_pan_seg", "--workers", "2").returncode == 0
    metadata, records = load("ade20k_panoptic_val", ade)
    frame = records[0].frames[0]
    ids = read_ids(frame.panoptic)
    names = [metadata.classes[s.category] for s in frame.segments]
    assert names == ["wall", "bed", "bed", "person"]
    seen = [int((ids == s.shape.id).sum()) for s in frame.segments]
    assert seen == [60, 28, 24, 48]  # things lie over stuff
    assert frame.segments[0].area == 64  # whose area is counted before, as published
    assert len({s.shape.id for s in frame.segments} - {0}) == 4
    assert (ids[:2] == 0).all()
    assert read_png(frame.panoptic)[6, 0].tolist() == list(metadata.colors[7])


def test_coco_semantic_from_panoptic(tmp_path, root):
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    png = np.zeros((4, 6, 3), np.uint8)
    png[1:, :3], png[1:, 3:] = (7, 0, 0), (1, 2, 3)
    segments = [{"id": 7, "category_id": 1}, {"id": 1 + 512 + 3 * 65536, "category_id": 200}]
    entry = {"image_id": 1, "file_name": "1.png", "segments_info": segments}
    for split in ("train2017", "val2017"):
        (tmp_path / "coco" / f"panoptic_{split}").mkdir()
        Image.fromarray(png).save(tmp_path / "coco" / f"panoptic_{split}" / "1.png")
        path = tmp_path / "coco" / "annotations" / f"panoptic_{split}.json"
        path.write_text(json.dumps({"annotations": [entry]}))
    name = "coco_semantic_annos_from_panoptic_annos"
    assert prepare(tmp_path, root, name, "--workers", "1").returncode == 0
    made = read_png(tmp_path / "coco" / "panoptic_semseg_train2017" / "1.png")
    assert made[:, [0, 3]].tolist() == [[255, 255], [0, 132], [0, 132], [0, 132]]


def lvis(file, *, split="val2017"):
    """A bicycle and a teddy bear among things that COCO does not know, in two images."""
    synsets = {1: "yoyo.n.01", 2: "bicycle.n.01", 3: "ant.n.01", 4: "teddy.n.01", 5: "oven.n.01"}
    url = "http://images.cocodataset.org/"
    images = [
        {"id": 7, "coco_url": f"{url}val2017/7.jpg", "neg_category_ids": [1, 4]},
        {"id": 8, "coco_url": f"{url}{split}/8.jpg", "neg_category_ids": [3]},
    ]
    content = {
        "info": {"version": 1},
        "images": [image | {"not_exhaustive_category_ids": [2, 3]} for image in images],
        "categories": [{"id": i, "synset": s, "frequency": "f"} for i, s in synsets.items()],
        "annotations": [
            {"id": 10 * i, "image_id": image, "category_id": k, "area": 5}
            for i, (image, k) in enumerate([(7, 1), (7, 2), (8, 3), (8, 4)])
        ],
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return content


def test_lvis_with_the_classes_of_coco(tmp_path, root):
    content = lvis(tmp_path / "lvis/lvis_v0.5_val.json")
    lvis(tmp_path / "lvis/lvis_v1_val.json", split="train2017")
    assert prepare(tmp_path, root, "cocofied_lvis", "--workers", "1").returncode == 0
    made = json.loads((tmp_path / "lvis/lvis_v0.5_val_cocofied.json").read_text())
    assert made["info"] == content["info"]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in made["annotations"]] == [
        (1, 7, 2),
        (2, 8, 88),
    ]
    assert [i["neg_category_ids"] for i in made["images"]] == [[88], []]
    assert [i["not_exhaustive_category_ids"] for i in made["images"]] == [[2], [2]]
    # an oven occurs nowhere
    assert [(c["id"], c["synset"]) for c in made["categories"]] == [
        (2, "bicycle.n.01"),
        (88, "teddy.n.01"),
    ]
    # COCO trains on the second image
    made = json.loads((tmp_path / "lvis/lvis_v1_val_cocofied.json").read_text())
    assert [i["id"] for i in made["images"]] == [7]
    assert [a["image_id"] for a in made["annotations"]] == [7]


def test_every_class_of_coco_has_a_synset(root):
    lists = {
        name: yaml.safe_load((root / f"datasets/classes/{name}.yaml").read_text())
        for name in ("coco_synsets", "coco_things")
    }
    assert list(lists["coco_synsets"].values()) == lists["coco_things"]["ids"]
    published = {"stop_sign.n.01": 13, "bag.n.04": 31, "bag.n.06": 33, "frank.n.02": 58}
    assert published.items() <= lists["coco_synsets"].items()


@pytest.mark.parametrize("name", ["ade20k_sem_seg", "ade20k_pan_seg", "cocofied_lvis"])
def test_missing_folders_are_told(tmp_path, root, name):
    done = prepare(tmp_path, root, name)
    assert done.returncode == 1
    assert "DETECTRON2_DATASETS" in done.stderr
    assert "Traceback" not in done.stderr
