"""What is built for a test set."""

import logging
from dataclasses import replace

import pytest
from fake_task import make_task

from segcore.build.data import test_metadata as metadata_of
from segcore.build.evaluators import build_evaluators
from segcore.config import load_config
from segcore.data.catalog import dataset_metadata
from segcore.errors import ConfigError, DataError

VAL = "coco_2017_val_panoptic"


def named(root, classes):
    values = dataset_metadata(VAL, root).to_dict() | {"classes": classes}
    return type(dataset_metadata(VAL, root)).from_dict(values)


def test_classes_of_a_test_set_are_those_of_the_model(root, caplog):
    trained = dataset_metadata("coco_2017_train_panoptic", root)
    assert metadata_of(load_config(), VAL, trained).classes == trained.classes
    assert not caplog.text
    others = ("human", *trained.classes[1:])
    metadata_of(load_config(), VAL, named(root, others))
    assert "1 classes have other names than the model's: 'human' is 'person'" in caplog.text


def test_other_classes_are_refused(root):
    trained = dataset_metadata("coco_2017_train_panoptic", root)
    with pytest.raises(ConfigError, match=r"has 80 classes \(person, .*the model 133"):
        metadata_of(load_config(), "coco_2017_val", trained)
    turned = named(root, trained.classes[::-1])
    with pytest.raises(ConfigError, match="in the same order"):
        metadata_of(load_config(), VAL, turned)
    entities = load_config(None, ["ENTITY.ENABLE", "true"])
    assert metadata_of(entities, "coco_2017_val", trained)


def test_without_annotations_there_is_nothing_to_judge_by(root, caplog):
    caplog.set_level(logging.INFO)
    metadata = dataset_metadata("coco_2017_test-dev", root)
    for makes in (("instance",), ("entity",)):
        task = replace(make_task(), makes=makes)
        assert build_evaluators(load_config(), task, metadata) == []
    assert "coco_2017_test-dev has no annotations: no metrics, predictions alone" in caplog.text


def test_unknown_evaluators_of_a_checkpoint_are_told(root):
    values = dataset_metadata(VAL, root).to_dict() | {"evaluators": ["semantic", "semanticc"]}
    metadata = type(dataset_metadata(VAL, root)).from_dict(values)
    with pytest.raises(DataError, match=r"unknown evaluators \['semanticc'\]; there are semantic"):
        build_evaluators(load_config(), make_task(), metadata)
