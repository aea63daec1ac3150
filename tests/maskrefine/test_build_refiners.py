"""Detectors, refiners and the patch network from their configs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskrefine import build as maskrefine_build
from maskrefine.build import MaskPart, build_detector, build_head, build_patch_refiner
from maskrefine.hrnet import PatchNetwork
from maskrefine.opencv_resize import resize_image
from maskrefine.patch_build import build_patches
from segcore.build.solver import build_optimizer
from segcore.config import load_config
from segcore.data.transforms import pillow
from segcore.engine.weights import load_into_task
from segcore.errors import ConfigError, WeightsError
from segcore.structures import Frame, Metadata, Record

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(
    p
    for folder in ("refine", "COCO-InstanceSegmentation")
    for p in (CONFIGS / folder).rglob("*.yaml")
    if not p.name.startswith("Base")
)
DETECTOR = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.DEVICE", "cpu"]
PATCHES = ["MODEL.META_ARCHITECTURE", "EncoderDecoderRefine", "MODEL.DEVICE", "cpu"]
TINY = [
    *("MODEL.BACKBONE.NAME", "outside.networks:build_backbone"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
]


def classes(count):
    names = tuple(f"class {i}" for i in range(count))
    things, black = (True,) * count, ((0, 0, 0),) * count
    return Metadata("data", names, tuple(range(count)), things, black)


def blank(cfg, count=0):
    """A task without the memory of its weights."""
    with torch.device("meta"):
        if cfg.MODEL.META_ARCHITECTURE == "EncoderDecoderRefine":
            return build_patches(cfg, classes(8))
        return build_detector(cfg, classes(count or cfg.MODEL.ROI_HEADS.NUM_CLASSES or 80))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_file_builds(path):
    task = blank(load_config(path))
    own = task.model.state_dict()
    official = task.official(own)
    assert task.renames(official).keys() == own.keys()
    rows = [k for k in own for kind in task.class_rows if k.endswith(kind.name)]
    assert len(rows) == len(task.class_rows)


@pytest.mark.parametrize(("name", "host", "refiner", "place"), [
    ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", "d2_r50", "", ""),
    ("refine/transfiner/mask_rcnn_R_50_FPN_3x_deform", "d2_r50_deform", "transfiner", "roi_heads."),
    ("refine/refinemask/coco/r50-refinemask-1x", "mm_r50", "refinemask", "roi_head.mask_head."),
    ("refine/refinemask/coco/r50-refinemask-1x-faster-better", "mm_r50", "refinemask_simple",
     "roi_head.mask_head."),
])  # fmt: skip
def test_names_and_shapes_equal_the_official(golden, name, host, refiner, place):
    wanted = json.loads((golden / "hosts" / f"{host}.keys.json").read_text())
    if refiner:
        keys = json.loads((golden / "refiners" / f"{refiner}.keys.json").read_text())
        wanted = {k: v for k, v in wanted.items() if ".mask_head." not in k}
        wanted |= {place + k: v for k, v in keys.items()}
    task = blank(load_config(CONFIGS / f"{name}.yaml"))
    official = task.official(task.model.state_dict())
    assert {k: list(v.shape) for k, v in official.items()} == wanted


def test_names_of_the_patch_network_equal_the_official(golden):
    for name, size in (("hrnet18s_128", "hrnet18s"), ("hrnet48_256", "hrnet48")):
        task = blank(load_config(CONFIGS / "refine" / "bpr" / f"{name}.yaml"))
        keys = json.loads((golden / "refiners" / f"bpr_{size}.keys.json").read_text())
        official = task.official(task.model.state_dict())
        assert {k: list(v.shape) for k, v in official.items()} == keys


def test_the_schedules_are_the_published_ones():
    three = load_config(CONFIGS / "refine/transfiner/mask_rcnn_R_50_FPN_3x.yaml").SOLVER
    assert (three.BASE_LR, three.STEPS, three.MAX_ITER) == (0.02, [210000, 250000], 270000)
    assert (three.WARMUP_ITERS, three.WARMUP_FACTOR, three.WEIGHT_DECAY) == (1000, 0.001, 1e-4)
    cfg = load_config(CONFIGS / "refine/bpr/hrnet18s_128.yaml")
    with torch.device("meta"):
        optimizer, schedule = build_optimizer(cfg, blank(cfg))
    assert {(g["lr"], g["weight_decay"]) for g in optimizer.param_groups} == {(0.01, 5e-4)}
    assert [round(0.01 * schedule(i), 8) for i in (0, 160_000)] == [0.01, 1e-4]
    assert 0.01 * schedule(80_000) == pytest.approx((0.01 - 1e-4) * 0.5**0.9 + 1e-4)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.ROI_HEADS.NAME", "Res5ROIHeads"], "only 'StandardROIHeads' is built here"),
        (["MODEL.MASK_ON", "false"], "only True is built here"),
        (["MODEL.RESNETS.DEFORM_MODULATED", "true"], "only False is built here"),
        (["MODEL.RPN.IOU_THRESHOLDS", "[0.5]"], "expected 2 numbers"),
        (["INPUT.FORMAT", "HSV"], "expected BGR, RGB"),
        (["MODEL.NUMERICS", "keras"], "expected detectron2, mmdet"),
        (["MODEL.TRANSFINER.TEST_LIMIT", "-1"], "must be at least 0"),
        (["MODEL.ROI_HEADS.NUM_CLASSES", "7"], "is 7, but data has 2 classes"),
        (["MODEL.ROI_MASK_HEAD.NAME", "PointRend"], "expected MaskRCNNConvUpsampleHead, Transfine"),
        (["MODEL.ROI_MASK_HEAD.CONV_DIM", "8"], "must equal MODEL.FPN.OUT_CHANNELS 16"),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64]]"], "one size for each of the 5 levels"),
        (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1], [2]]"], "one list for all levels"),
        (["MODEL.BACKBONE.NAME", "build_swinb_fpn_backbone"], "SWINT has Swin-T's values"),
        (["MODEL.BACKBONE.NAME", "outside.networks:build_coarse"], r"strides \(8, 16\)"),
        (["INPUT.DATASET_MAPPER_NAME", "mask_former_semantic"], "a detector needs objects"),
        (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"], "expected the least and the largest size"),
    ],
)
def test_mistakes_raise(opts, message):
    with pytest.raises(ConfigError, match=message):
        build_detector(load_config(None, [*DETECTOR, *TINY, *opts]), classes(2))


class Squares(nn.Module):
    """A mask head: every box is full."""

    def forward(self, features, regions):
        raise NotImplementedError


def squares(cfg, num_classes):
    return MaskPart(head=Squares(), losses=lambda regions, targets: {}, names={})


def test_a_mask_head_of_ones_own_takes_the_place_of_ours(monkeypatch):
    monkeypatch.setattr(maskrefine_build, "squares", squares, raising=False)
    own = ["MODEL.ROI_MASK_HEAD.NAME", "maskrefine.build:squares"]
    task = build_detector(load_config(None, [*DETECTOR, *TINY, *own]), classes(2))
    assert isinstance(task.model.mask_head, Squares)


@pytest.mark.parametrize("head", [
    "MaskRCNNConvUpsampleHead", "TransfinerHead", "RefineMaskHead", "SimpleRefineMaskHead",
])  # fmt: skip
def test_classes_that_both_know_keep_their_rows(head):
    opts = [*DETECTOR, *TINY, "MODEL.ROI_MASK_HEAD.NAME", head]
    if "RefineMask" in head:  # which halves its channels three times
        opts += ["MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "32"]
    before = build_detector(load_config(None, opts), classes(3))
    after = build_detector(load_config(None, opts), classes(2))
    content = {
        "model": before.official(before.model.state_dict()),
        "metadata": classes(3).to_dict(),
    }
    report = load_into_task(after, content)
    assert not report.reinitialised and not report.unused
    assert set(report.resized) == {
        name
        for name in after.model.state_dict()
        if any(name.endswith(rows.name) for rows in after.class_rows)
    }
    theirs, ours = before.model.state_dict(), after.model.state_dict()
    deltas = theirs["box_head.deltas.weight"]
    assert torch.equal(ours["box_head.deltas.weight"], deltas[:8])
    scores = theirs["box_head.classes.bias"]
    assert torch.equal(ours["box_head.classes.bias"], scores[[0, 1, 3]])


def test_weights_of_another_refiner_raise_where_all_are_needed():
    plain = build_detector(load_config(None, [*DETECTOR, *TINY]), classes(2))
    opts = ["MODEL.ROI_MASK_HEAD.NAME", "TransfinerHead"]
    task = build_detector(load_config(None, [*DETECTOR, *TINY, *opts]), classes(2))
    official = {"model": plain.official(plain.model.state_dict())}
    with pytest.raises(WeightsError, match=r"not a trained model; missing: mask_head\."):
        load_into_task(task, official, complete=True)
    assert not load_into_task(task, official).unused  # but they are a start


def test_released_weights_may_lack_what_only_training_needs():
    opts = [*DETECTOR, *TINY, "MODEL.ROI_MASK_HEAD.NAME", "TransfinerHead"]
    task = build_detector(load_config(None, opts), classes(2))
    official = task.official(task.model.state_dict())
    old = {k: v for k, v in official.items() if "_bo." not in k}  # of before May 2022
    assert len(old) == len(official) - 4
    report = load_into_task(task, {"model": old}, complete=True)
    assert all(name.startswith("mask_head.boundary.") for name in report.reinitialised)
    del old["roi_heads.mask_head.encoder.conv_fuse.weight"]
    with pytest.raises(WeightsError, match=r"missing: mask_head\.encoder\.fuse\.weight; give"):
        load_into_task(task, {"model": old}, complete=True)


def test_classes_that_are_no_objects_raise():
    sky = replace(classes(2), is_thing=(True, False))
    with pytest.raises(ConfigError, match=r"data has 1 classes that are no objects \(class 1"):
        build_detector(load_config(None, [*DETECTOR, *TINY]), sky)


@pytest.mark.parametrize("name", ["transfiner", "refinemask", "refinemask_simple"])
def test_a_head_by_itself_takes_official_names(golden, name):
    with torch.device("meta"):
        head = build_head(name, num_classes=80)
    assert not head.training
    keys = json.loads((golden / "refiners" / f"{name}.keys.json").read_text())
    assert {k: list(v.shape) for k, v in head.official_state().items()} == keys


def test_a_patch_refiner_takes_official_weights():
    refiner = build_patch_refiner("hrnet18s", size=128)
    torch.manual_seed(1)
    network = PatchNetwork(maskrefine_build.VARIANTS["hrnet18s"])
    refiner.load_official(network.state_dict())
    for mine, wanted in zip(refiner.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, wanted)
    with pytest.raises(WeightsError, match="of the other size"):
        refiner.load_official({})


def test_names_that_are_none_raise():
    with pytest.raises(ConfigError, match="expected one of transfiner, refinemask, refinemask_s"):
        build_head("pointrend")
    with pytest.raises(ConfigError, match="expected one of hrnet18s, hrnet48"):
        build_patch_refiner("hrnet32")


def test_a_network_for_imagenet_is_a_start():
    task = build_patches(load_config(None, PATCHES), classes(8))
    bare = {
        name.removeprefix("network.backbone."): value
        for name, value in task.model.state_dict().items()
        if ".backbone." in name and "conv_mask" not in name
    }
    bare |= {
        "classifier.weight": torch.zeros(1000, 2048),
        "incre_modules.0.0.conv1.weight": bare["conv1.weight"],
    }
    report = load_into_task(task, bare)
    assert [n for n in report.reinitialised if "backbone" in n] == [
        "network.backbone.conv_mask.weight"
    ]


def test_images_are_resized_as_each_program_did():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    record = Record(1, (60, 90), (Frame(Path("x.png")),))
    size = ["INPUT.MIN_SIZE_TEST", "32"]
    for numerics, resample in (("detectron2", pillow), ("mmdet", resize_image)):
        cfg = load_config(None, [*DETECTOR, *TINY, *size, "MODEL.NUMERICS", numerics])
        views = build_detector(cfg, classes(2)).views.test(image, record).views
        wanted = torch.tensor(resample(image, 32, 48)).permute(2, 0, 1)
        assert torch.equal(views[0], wanted)
