"""Test-time augmentation around a real, small network."""

import numpy as np
import pytest
import torch

from segcore.build.data import catalog, train_metadata
from segcore.build.evaluators import build_augmented
from segcore.config import load_config
from segcore.engine.launch import launch
from segcore.errors import ConfigError
from segcore.predict import Predictor
from segcore.structures import Batch

SEMANTIC = ["DATASETS.TRAIN", "[coco_2017_train_panoptic]", "TEST.AUG.ENABLED", "true"]


def augmented(root, *opts):
    torch.manual_seed(0)
    path = root / "configs/tiny/semantic_tiny.yaml"
    plain = ["TEST.PREPARE", "false"]  # whose weights can be changed
    predictor = Predictor(load_config(path, [*SEMANTIC, *opts, *plain]), "")
    with torch.no_grad():  # an opinion on every query, and masks that differ
        predictor.task.model.decoder.class_embed.weight.normal_(0, 2)
        predictor.task.model.decoder.mask_embed.layers[-1].weight.normal_()
    fabric = launch(device="cpu")
    average = build_augmented(predictor.cfg, predictor.task, fabric)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = np.kron(pixels, np.ones((16, 20, 1), np.uint8))  # 48 x 80
    batch = Batch.collate([predictor.sample(image)])
    with torch.inference_mode():
        mirrored = Batch.collate([predictor.sample(np.ascontiguousarray(image[:, ::-1]))])
        return average(batch)[0].semantic, average(mirrored)[0].semantic, predictor(image)[0]


def test_one_version_equals_the_plain_result(root):
    semantic, _, plain = augmented(root, "TEST.AUG.MIN_SIZES", "[64]", "TEST.AUG.FLIP", "false")
    assert torch.equal(semantic, plain.semantic)


def test_the_result_of_the_mirrored_image_is_mirrored(root):
    """To rounding: the same versions are summed in another order."""
    semantic, mirrored, plain = augmented(root, "TEST.AUG.MIN_SIZES", "[48, 64, 96]")
    assert (semantic != mirrored.flip(1)).float().mean() < 0.001
    assert (semantic != plain.semantic).any()


def test_other_models_raise(root):
    with pytest.raises(ConfigError, match="semantic results alone"):
        augmented(root, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "true")


def test_classes_of_the_mirrored_image_change_places_in_the_mean(root):
    """The result of a mirrored image is the mirrored one, its two largest classes exchanged."""
    opts = ("TEST.AUG.MIN_SIZES", "[48, 64]")
    plain = augmented(root, *opts)[0].long()
    cfg = load_config(root / "configs/tiny/semantic_tiny.yaml", SEMANTIC)
    names = train_metadata(cfg, catalog(cfg)).classes
    first, second = plain.flatten().bincount().argsort(descending=True)[:2].tolist()
    pair = f"[[{names[first]}, {names[second]}]]"
    semantic, mirrored, _ = augmented(root, *opts, "INPUT.MIRROR_SWAP", pair)
    order = torch.arange(len(names))
    order[[first, second]] = order[[second, first]]
    exchanged = order[semantic.long()]
    assert (exchanged != semantic).any() and (semantic != plain).any()
    assert (exchanged != mirrored.flip(1)).float().mean() < 0.001


def test_sides_without_a_class_of_the_other_raise(root):
    with pytest.raises(ConfigError, match="has no class; expected pairs"):
        augmented(root, "INPUT.MIRROR_SWAP", "[[left_cat, right_cat]]")
