"""What the build function takes from a config, and what it refuses."""

from pathlib import Path

import pytest
import torch

from mask2former.build import build, class_count
from mask2former.distinct import Duplicates
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.data.transforms import RandomCrop, RandomFlip
from segcore.errors import ConfigError

PANOPTIC = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"


def built(root, name, *opts):
    cfg = load_config(root / "configs" / name, ["MODEL.WEIGHTS", "", *opts])
    with torch.device("meta"):
        return build(cfg, Catalog(root).metadata(cfg.DATASETS.TRAIN[0]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("INPUT.FORMAT", "BGR"),
        ("MODEL.MASK_FORMER.PRE_NORM", "True"),
        ("MODEL.MASK_FORMER.DEEP_SUPERVISION", "False"),
        ("MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "BasePixelDecoder"),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", "[res3, res4, res5]"),
        ("MODEL.SWIN.APE", "True"),
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", "128"),
        ("MODEL.BACKBONE.NAME", "my_resnet"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "80"),
        ("INPUT.DATASET_MAPPER_NAME", "mask_former_panoptics"),
        ("INPUT.RANDOM_FLIP", "vertical"),
        ("INPUT.RANDOM_FLIP", "horizontl"),
        ("MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselineHead"),
        ("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "StandardTransformerDecoder"),
    ],
)
def test_what_cannot_be_built_raises_and_names_its_key(root: Path, key, value):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        built(root, PANOPTIC, key, value)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ((), "SIZE"),  # detectron2's default is relative
        (("INPUT.CROP.SIZE", "[64]"), "SIZE"),
        (("INPUT.CROP.SIZE", "[64, 64]", "INPUT.CROP.TYPE", "relative_range"), "TYPE"),
    ],
)
def test_crops_are_given_in_pixels(root: Path, more, key):
    mapper = ("INPUT.DATASET_MAPPER_NAME", "mask_former_panoptic", "INPUT.CROP.ENABLED", "true")
    with pytest.raises(ConfigError, match=rf"INPUT\.CROP\.{key} is"):
        built(root, PANOPTIC, *mapper, *more)
    steps = built(root, PANOPTIC, *mapper, "INPUT.CROP.SIZE", "[48, 64]").views.steps
    assert RandomCrop((48, 64)) in steps


@pytest.mark.parametrize("mapper", ["mask_former_panoptic", "coco_panoptic_lsj"])
def test_images_are_mirrored_where_the_config_says(root: Path, mapper):
    for kind, count in (("horizontal", 1), ("none", 0)):
        opts = ("INPUT.DATASET_MAPPER_NAME", mapper, "INPUT.RANDOM_FLIP", kind)
        steps = built(root, PANOPTIC, *opts).views.steps
        assert sum(isinstance(step, RandomFlip) for step in steps) == count


def test_the_decoders_of_all_systems_are_one(root: Path):
    name = "VideoMultiScaleMaskedTransformerDecoder"
    assert built(root, PANOPTIC, "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", name)


def test_classes_come_from_the_data_set_where_the_config_leaves_them(root: Path):
    task = built(root, PANOPTIC, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "0")
    assert task.model.decoder.class_embed.out_features == 134
    cfg = load_config(root / "configs" / PANOPTIC)
    assert class_count(cfg, Catalog(root).metadata("coco_2017_val_panoptic")) == 133


def test_numbers_of_the_config_reach_the_model(root: Path):
    task = built(
        root,
        PANOPTIC,
        *("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "37", "MODEL.MASK_FORMER.DEC_LAYERS", "4"),
        *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "2", "MODEL.MASK_FORMER.DROPOUT", "0.25"),
        *("MODEL.MASK_FORMER.DIM_FEEDFORWARD", "96", "MODEL.SEM_SEG_HEAD.MASK_DIM", "48"),
        *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.4"),
        *("MODEL.MASK_FORMER.TEST.NUM_QUERIES", "80"),
    )
    decoder, encoder = task.model.decoder, task.model.pixel_decoder.transformer.encoder
    assert decoder.query_feat.weight.shape == (37, 256)
    assert len(decoder.layers) == 3 and decoder.layers[0].linear1.out_features == 96
    assert decoder.mask_embed.layers[-1].out_features == 48
    assert len(encoder.layers) == 2 and encoder.layers[0].dropout.p == 0.25
    assert task.postprocess.object_threshold == 0.4
    assert len(decoder.test_noise) == 80 and task.postprocess.duplicates.copies == 3
    assert task.postprocess.duplicates.overlap == 0.7
    found = built(root, PANOPTIC, "MODEL.MASK_FORMER.TEST.DUPLICATE_IOU", "0.6").postprocess
    assert (
        found.duplicates == Duplicates(0.6) and built(root, PANOPTIC).postprocess.duplicates is None
    )


@pytest.mark.parametrize(
    ("name", "late", "flags"),
    [
        ("ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml", True, (1, 0, 0)),
        ("coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml", False, (0, 0, 1)),
        (PANOPTIC, False, (1, 1, 1)),
    ],
)
def test_semantic_only_models_resize_their_scores_late(root: Path, name, late, flags):
    post = built(root, name).postprocess
    assert post.late_resize == late
    assert (post.semantic, post.panoptic, post.instances) == flags


def test_a_pad_size_that_cuts_images_warns(root, caplog):
    """The published transforms cut what is larger than SIZE_DIVISIBILITY."""
    built(root, PANOPTIC, "INPUT.DATASET_MAPPER_NAME", "mask_former_panoptic")
    small = ["INPUT.MIN_SIZE_TRAIN", "320", "INPUT.DATASET_MAPPER_NAME", "mask_former_panoptic"]
    built(root, PANOPTIC, *small, "INPUT.SIZE_DIVISIBILITY", "512")
    assert not caplog.text
    built(root, PANOPTIC, *small, "INPUT.SIZE_DIVISIBILITY", "256")
    assert "INPUT.SIZE_DIVISIBILITY 256 cuts" in caplog.text
