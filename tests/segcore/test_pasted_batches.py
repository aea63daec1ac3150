"""INPUT.COPY_PASTE from a config to batches: off, resumed, refused."""

from pathlib import Path

import pytest
import torch
from tiny import make_dataset

from cropformer.build import build_views as build_crop_views
from mask2former.video_build import build_clip_views
from maskrefine.patch_build import build_patches
from segcore.build.copy_paste import training_views
from segcore.build.data import train_batches
from segcore.build.task import build_task
from segcore.cli.overfit import overfit_words
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.engine.launch import launch
from segcore.errors import ConfigError

ON = ("INPUT.COPY_PASTE.PROBABILITY", "0.6")
SMALL = (
    *("INPUT.MIN_SIZE_TRAIN", "[48,56]", "INPUT.MAX_SIZE_TRAIN", "80", "INPUT.CROP.ENABLED"),
    *("false", "SOLVER.IMS_PER_BATCH", "2", "MODEL.DEVICE", "cpu", "SEED", "3"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "0", "INPUT.SIZE_DIVISIBILITY", "-1"),
)
BATCHES = 9  # two epochs of eight images


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("pasted"))


def config(request, name, mapper, *opts):
    given = ("DATASETS.TRAIN", f"[{name}]", "INPUT.DATASET_MAPPER_NAME", mapper)
    root = request.config.rootpath
    return load_config(root / "configs/tiny/panoptic_tiny.yaml", [*SMALL, *given, *opts])


def batches(cfg, catalog, start=0, count=BATCHES, workers="0"):
    task = build_task(cfg, catalog.metadata(cfg.DATASETS.TRAIN[0]))
    cfg.DATALOADER.NUM_WORKERS = int(workers)
    stream = train_batches(cfg, task, catalog, launch(device="cpu", precision="fp32"), start)
    return [next(stream) for _ in range(count - start)]


def alike(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(a.images, b.images)
        and all(
            torch.equal(x.masks, y.masks) and torch.equal(x.labels, y.labels)
            for x, y in zip(a.targets, b.targets, strict=True)
        )
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "mapper"),
    [
        ("tiny_panoptic", "mask_former_panoptic"),
        ("tiny_panoptic", "mask_former_semantic"),
        ("tiny_instances", "mask_former_instance"),
    ],
)
def test_two_epochs_equal_those_of_a_resumed_run_with_workers(request, drawn, name, mapper):
    catalog = Catalog(Path("nowhere"), [drawn])
    cfg = config(request, name, mapper, *ON)
    whole = batches(cfg, catalog)
    assert alike(whole[4:], batches(cfg, catalog, start=4))
    if name == "tiny_instances":
        assert alike(whole, batches(cfg, catalog, workers="2"))
    plain = batches(config(request, name, mapper), catalog)
    assert not alike(whole, plain)


def test_off_by_default_nothing_else_is_drawn(request, drawn):
    catalog = Catalog(Path("nowhere"), [drawn])
    cfg = config(request, "tiny_instances", "mask_former_instance")
    task = build_task(cfg, catalog.metadata("tiny_instances"))
    records = catalog.read("tiny_instances")
    assert training_views(cfg.INPUT.COPY_PASTE, task, records) is task.views


def test_data_without_objects_raises(request, drawn):
    catalog = Catalog(Path("nowhere"), [drawn])
    cfg = config(request, "tiny_semantic", "mask_former_semantic", *ON)
    with pytest.raises(ConfigError, match=r"COPY_PASTE.PROBABILITY is 0.6, but DATASETS.TRAIN has"):
        batches(cfg, catalog)


@pytest.mark.parametrize("key", ["VERTICAL_FLIP", "ROTATION", "COPY_PASTE.PROBABILITY"])
def test_clips_crops_and_patches_raise(key):
    opts = [f"INPUT.{key}", "0.5"]
    for name, build in (("CropFormer", build_crop_views), ("VideoMaskFormer", build_clip_views)):
        cfg = load_config(None, ["MODEL.META_ARCHITECTURE", name, *opts])
        with pytest.raises(ConfigError, match=rf"INPUT.{key} is 0.5; {name}.*expected 0"):
            build(cfg, None)
    cfg = load_config("small/bpr_hrnet18s.yaml", opts)
    with pytest.raises(ConfigError, match=rf"INPUT.{key} is 0.5.*patches.*expected 0"):
        build_patches(cfg, None)


def test_overfit_pastes_nothing():
    words = overfit_words(None, ["DATASETS.TRAIN", "[a]"], 2, 1)
    assert words[words.index("INPUT.COPY_PASTE.PROBABILITY") + 1] == "0.0"
