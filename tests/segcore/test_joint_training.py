"""Stills and videos in one training: classes by name, shares, clips of copies."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from loading import load
from tiny import make_dataset
from tiny_video import make_videos

from segcore.build.data import catalog, train_batches, train_metadata, train_records
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.data.class_match import matched
from segcore.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    make_dataset(folder, 6)
    make_videos(folder)
    return folder


def built(root, home, *names, config="video_tiny", opts=()):
    files = f"[{home}/tiny.yaml, {home}/tiny_video.yaml]"
    given = ["DATASETS.CATALOGS", files, "DATASETS.TRAIN", json.dumps(names), "SEED", "1", *opts]
    cfg = load_config(root / f"configs/tiny/{config}.yaml", given)
    sets = catalog(cfg)
    with torch.device("meta"):
        return cfg, build_task(cfg, train_metadata(cfg, sets)), sets


def test_stills_and_videos_make_batches_of_clips(root, home):
    cfg, task, sets = built(root, home, "tiny_video", "tiny_instances")
    records = train_records(cfg, task, sets)
    assert records.frames.tolist() == [4, 5, 3, 1, *[1] * 6]
    assert records.part.tolist() == [0] * 4 + [1] * 6
    fabric = Fabric(accelerator="cpu", devices=1)
    batches = train_batches(cfg, task, sets, fabric)
    for _ in range(5):
        batch = next(batches)
        assert batch.images.shape[:3] == (2, 2, 3)
        assert all(t.masks.shape[1] == 2 for t in batch.targets)


def test_shares_say_how_much_of_a_training_each_set_is(root, home):
    opts = ["DATASETS.SHARES", "[3, 1]", "SOLVER.IMS_PER_BATCH", "1"]
    cfg, task, sets = built(root, home, "tiny_video", "tiny_instances", opts=opts)
    batches = train_batches(cfg, task, sets, Fabric(accelerator="cpu", devices=1))
    files = [str(next(batches).records[0].frames[0].file) for _ in range(120)]
    assert 0.65 < np.mean(["frames" in file for file in files]) < 0.85
    opts[1] = "[3]"
    cfg, task, sets = built(root, home, "tiny_video", "tiny_instances", opts=opts)
    with pytest.raises(ConfigError, match=r"DATASETS\.SHARES is \[3\.0\], DATASETS.TRAIN has 2"):
        train_batches(cfg, task, sets, Fabric(accelerator="cpu", devices=1))


def test_other_classes_are_found_by_name_where_the_config_says(root, home):
    names = ("tiny_video", "tiny_panoptic")
    cfg, task, sets = built(root, home, *names)
    with pytest.raises(ConfigError, match=r"DATASETS\.MATCH_CLASSES true"):
        train_records(cfg, task, sets)
    cfg, task, sets = built(root, home, *names, opts=["DATASETS.MATCH_CLASSES", "true"])
    records = train_records(cfg, task, sets)
    plain = sets.read("tiny_panoptic")
    of_stills = records.take(records.part == 1)
    for record, whole in zip(of_stills, plain, strict=True):
        things = [s for s in whole.frames[0].segments if s.category < 2]
        assert list(record.frames[0].segments) == things and len(things) < 3
        assert record.frames[0].panoptic == whole.frames[0].panoptic


def test_names_are_matched_in_any_spelling_and_order(home):
    metadata, records = load(str(home / "instances.json"))
    ours = replace(metadata, name="ours", classes=("Disc", "x_ray", "BOX"))
    theirs = replace(metadata, classes=("box", "disc"))
    pairs = zip(records, matched(records, theirs, ours), strict=True)
    table = {0: 2, 1: 0}
    for record, renamed in pairs:
        before, after = record.frames[0].segments, renamed.frames[0].segments
        assert [table[s.category] for s in before] == [s.category for s in after]
        assert [s.shape for s in before] == [s.shape for s in after]
    with pytest.raises(DataError, match="none of its classes"):
        matched(records, theirs, replace(ours, classes=("a", "b")))


def test_an_image_model_refuses_videos(root, home):
    cfg, task, sets = built(root, home, "tiny_video", config="instance_tiny")
    with pytest.raises(ConfigError, match="META_ARCHITECTURE VideoMaskFormer"):
        train_records(cfg, task, sets)


def test_classes_that_coco_shares_with_youtube_vis(root):
    sets = Catalog(root)
    for year, count in ((2019, 19), (2021, 21)):
        theirs = sets.metadata(f"coco_2017_train_for_ytvis_{year}")
        ours = sets.metadata(f"ytvis_{year}_train")
        assert theirs.dataset_ids == sets.metadata("coco_2017_train").dataset_ids
        shared = {n.replace(" ", "_") for n in theirs.classes} & set(ours.classes)
        assert len(shared) == count and "mouse" not in shared
