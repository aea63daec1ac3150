"""What the video model takes from a config, and checkpoints of other classes."""

from pathlib import Path

import pytest
import torch

from mask2former.schema import VideoInput
from mask2former.video_build import build_video
from mask2former.weights import to_official
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.data.clips import Step
from segcore.data.frame_transforms import (
    RandomRotation,
    RandomSizeCrop,
    random_brightness,
    random_saturation,
)
from segcore.data.transforms import RandomCrop, RandomFlip, ResizeShortestEdge
from segcore.engine.weights import load_into_task
from segcore.errors import ConfigError
from segcore.structures import Batch, Frame, Record, Sample

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = {  # published: depths of Swin, queries, shorter edge at test time by year, weights
    "video_maskformer2_R50_bs16_8ep": (50, 100, (360, 360), "3c8ec9"),
    "video_maskformer2_R101_bs16_8ep": (101, 100, (360, 360), "eba159"),
    "swin/video_maskformer2_swin_tiny_bs16_8ep": (96, 100, (480, 480), "86143f"),
    "swin/video_maskformer2_swin_small_bs16_8ep": (96, 100, (480, 480), "1e7f22"),
    "swin/video_maskformer2_swin_base_IN21k_384_bs16_8ep": (128, 100, (480, 480), "83d103"),
    "swin/video_maskformer2_swin_large_IN21k_384_bs16_8ep": (192, 200, (480, 360), "e5f453"),
}
SOLVER = {2019: (6000, [4000]), 2021: (8000, [5500])}


def built(name="tiny/video_tiny.yaml", *opts, data="ytvis_2019_train"):
    cfg = load_config(ROOT / "configs" / name, ["MODEL.WEIGHTS", "", *opts])
    with torch.device("meta"):
        return build_video(cfg, Catalog(ROOT).metadata(data))


@pytest.mark.parametrize("year", SOLVER)
@pytest.mark.parametrize("name", PUBLISHED)
def test_configurations_say_what_the_published_ones_say(year, name):
    cfg = load_config(ROOT / f"configs/youtubevis_{year}/{name}.yaml")
    width, queries, edges, digits = PUBLISHED[name]
    inputs, solver, swin = cfg.INPUT, cfg.SOLVER, cfg.MODEL.SWIN
    assert isinstance(inputs, VideoInput)
    said = {
        "size of the backbone": swin.EMBED_DIM if "swin" in name else cfg.MODEL.RESNETS.DEPTH,
        "queries": cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES,
        "weights": cfg.MODEL.WEIGHTS,
        "test size": inputs.MIN_SIZE_TEST,
        "train sizes": (inputs.MIN_SIZE_TRAIN, inputs.MAX_SIZE_TRAIN),
        "frames": (inputs.SAMPLING_FRAME_NUM, inputs.SAMPLING_FRAME_RANGE),
        "switches": (inputs.SAMPLING_FRAME_SHUFFLE, inputs.LAST_FRAME_LABELS),
        "steps": (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS, solver.LR_SCHEDULER_NAME),
        "batch": (solver.IMS_PER_BATCH, solver.BASE_LR),
        "classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        "data": (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS),
    }
    assert said == {
        "size of the backbone": width,
        "queries": queries,
        "weights": f"model_final_{digits}.pkl",
        "test size": edges[year == 2021],
        "train sizes": ([360, 480], 1333),
        "frames": (2, 20),
        "switches": (False, False),
        "steps": (*SOLVER[year], 10, "WarmupMultiStepLR"),
        "batch": (16, 1e-4),
        "classes": 40,
        "data": ([f"ytvis_{year}_train"], [f"ytvis_{year}_val"], False),
    }


def test_a_published_configuration_builds_its_clips_and_results():
    task = built("youtubevis_2021/video_maskformer2_R50_bs16_8ep.yaml", data="ytvis_2021_train")
    assert task.makes == ("tracks",) and task.clips and task.model.video
    assert (task.postprocess.max_instances, task.postprocess.video) == (10, True)
    views = task.views
    assert (views.frames, views.reach, views.shuffle) == (2, 20, False)
    assert (views.min_size, views.max_size, views.last_frame_labels) == (360, 1333, None)
    assert views.steps == (
        Step(ResizeShortestEdge((360, 480), 1333), "clip"),
        Step(RandomFlip(), "clip"),
    )


def test_keys_of_clips_reach_them():
    views = built(
        "tiny/video_tiny.yaml",
        *("INPUT.AUGMENTATIONS", "[rotation, brightness, saturation]"),
        *("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", "[30, 32]"),
        *("INPUT.RANDOM_FLIP", "horizontal", "INPUT.SAMPLING_FRAME_NUM", "4"),
        *("INPUT.SAMPLING_FRAME_RANGE", "7", "INPUT.SAMPLING_FRAME_SHUFFLE", "true"),
        *("INPUT.CROP.ENABLED", "true", "INPUT.CROP.TYPE", "absolute_range"),
        *("INPUT.CROP.SIZE", "[600, 720]", "INPUT.LAST_FRAME_LABELS", "true"),
        *("TEST.TRACKS_PER_VIDEO", "25"),
    ).views
    assert (views.frames, views.reach, views.shuffle, views.last_frame_labels) == (4, 7, True, 40)
    assert views.steps == (
        Step(RandomSizeCrop(600, 720), "video"),
        Step(ResizeShortestEdge((30, 31, 32), 1333), "frame"),
        Step(RandomFlip(), "frame"),
        Step(random_brightness, "frame"),
        Step(random_saturation, "frame"),
        Step(RandomRotation(), "frame"),
    )
    crop = ("INPUT.CROP.ENABLED", "true", "INPUT.CROP.SIZE", "[48, 32]")
    first = built("tiny/video_tiny.yaml", *crop).views.steps[0]
    assert first == Step(RandomCrop((48, 32)), "video")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("INPUT.AUGMENTATIONS", "[blur]"), r"AUGMENTATIONS has \['blur'\]; expected some of"),
        (("INPUT.RANDOM_FLIP", "vertical"), "INPUT.RANDOM_FLIP"),
        (("INPUT.MIN_SIZE_TRAIN_SAMPLING", "by_clip"), "MIN_SIZE_TRAIN_SAMPLING"),
        (("INPUT.SAMPLING_FRAME_NUM", "0"), "SAMPLING_FRAME_NUM"),
        (("INPUT.CROP.ENABLED", "true"), r"SIZE is \[0\.9, 0\.9\]; expected \[height, width\]"),
        (
            ("INPUT.CROP.ENABLED", "true", "INPUT.CROP.TYPE", "absolute_range",
             "INPUT.CROP.SIZE", "[720, 600]"),
            r"expected \[least, most\] in pixels",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_raises_and_names_its_key(opts, message):
    with pytest.raises(ConfigError, match=message):
        built("tiny/video_tiny.yaml", *opts)


def tiny_task(data):
    cfg = load_config(ROOT / "configs/tiny/video_tiny.yaml", ["MODEL.WEIGHTS", ""])
    return build_task(cfg, Catalog(ROOT).metadata(data))


def official(task):
    return {"model": to_official(task.model.state_dict())}


@pytest.mark.parametrize("year", [2019, 2021])
def test_checkpoints_of_forty_classes_load_whole(year, tmp_path):
    source, goal = (tiny_task(f"ytvis_{year}_train") for _ in range(2))
    content = official(source)
    assert content["model"]["criterion.empty_weight"].shape == (41,)
    torch.save(content, tmp_path / "model.pth")
    load_into_task(goal, str(tmp_path / "model.pth"), complete=True)
    for name, value in source.model.state_dict().items():
        assert torch.equal(goal.model.state_dict()[name], value), name


def test_a_checkpoint_of_coco_loads_but_for_its_classes(tmp_path):
    """As published, training begins from COCO's instances: 80 classes become 40."""
    cfg = load_config(ROOT / "configs/tiny/instance_tiny.yaml", ["MODEL.WEIGHTS", ""])
    source = build_task(cfg, Catalog(ROOT).metadata("coco_2017_train"))
    torch.save(official(source), tmp_path / "coco.pth")
    goal = tiny_task("ytvis_2019_train")
    load_into_task(goal, str(tmp_path / "coco.pth"))
    theirs, ours = source.model.state_dict(), goal.model.state_dict()
    other = {
        name
        for name, value in ours.items()
        if value.shape != theirs[name].shape or not torch.equal(value, theirs[name])
    }
    assert other == {"decoder.class_embed.weight", "decoder.class_embed.bias"}
    assert ours["decoder.class_embed.weight"].shape[0] == 41


def test_a_clip_of_one_frame_has_tracks():
    task = tiny_task("ytvis_2019_train")
    sample = Sample(
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        torch.tensor([[64, 64]]),
        torch.tensor([[0, 0, 48, 48]]),
        None,
        Record(1, (48, 48), (Frame(Path("a.png")),)),
    )
    batch = Batch.collate([sample])
    task.model.eval()
    (result,) = task.postprocess(task.infer(batch, torch.device("cpu")), batch)
    assert result.instances is None
    assert len(result.tracks.masks) == 10 and len(result.tracks.masks[0]) == 1
