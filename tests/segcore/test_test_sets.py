"""What is built for a test set."""

import logging
from dataclasses import replace

import pytest
from fake_task import make_task

from segcore.build.data import test_metadata as metadata_of
from segcore.build.evaluators import build_evaluators
from segcore.data.catalog import Catalog
from segcore.errors import ConfigError, DataError
from segcore.evaluation.cityscapes import CityscapesEvaluator
from segcore.evaluation.contour import ContourEvaluator
from segcore.evaluation.instance import InstanceEvaluator

VAL = "coco_2017_val_panoptic"


@pytest.fixture(scope="module")
def catalog(root):
    return Catalog(root)


@pytest.fixture(scope="module")
def task(catalog):
    """Of a model that was trained on COCO panoptic."""
    return replace(make_task(), metadata=catalog.metadata("coco_2017_train_panoptic"))


def with_classes(task, classes):
    return replace(task, metadata=replace(task.metadata, classes=classes))


def test_classes_of_a_test_set_are_those_of_the_model(task, catalog, caplog):
    trained = task.metadata.classes
    assert metadata_of(task, catalog, VAL).classes == trained
    assert not caplog.text
    metadata_of(with_classes(task, ("human", *trained[1:])), catalog, VAL)
    assert "1 classes have other names than the model's: 'human' is 'person'" in caplog.text


def test_other_classes_are_refused(task, catalog):
    with pytest.raises(ConfigError, match=r"has 80 classes \(person, .*the model 133"):
        metadata_of(task, catalog, "coco_2017_val")
    with pytest.raises(ConfigError, match="in the same order"):
        metadata_of(with_classes(task, task.metadata.classes[::-1]), catalog, VAL)
    entities = replace(task, makes=("entity",), metadata=task.metadata.as_entities())
    assert len(metadata_of(entities, catalog, "coco_2017_val").classes) == 80


def test_without_annotations_there_is_nothing_to_judge_by(task, catalog, caplog):
    caplog.set_level(logging.INFO)
    metadata = catalog.metadata("coco_2017_test-dev")
    for makes in (("instance",), ("entity",)):
        assert build_evaluators(replace(task, makes=makes), catalog, metadata) == []
    assert "coco_2017_test-dev has no annotations: no metrics, predictions alone" in caplog.text


def test_unknown_evaluators_raise(task, catalog):
    metadata = replace(catalog.metadata(VAL), evaluators=("semantic", "semanticc"))
    with pytest.raises(DataError, match=r"unknown evaluators \['semanticc'\]; there are semantic"):
        build_evaluators(task, catalog, metadata)


def evaluators_of(task, catalog, name, *evaluators):
    metadata = replace(catalog.metadata(name), evaluators=evaluators)
    return build_evaluators(replace(task, makes=("instance",)), catalog, metadata)


def test_one_model_of_instances_is_measured_by_all_that_compares_instances(task, catalog):
    made = evaluators_of(task, catalog, VAL, "instance", "semantic", "contour", "boundary")
    assert [type(each) for each in made] == [InstanceEvaluator, ContourEvaluator]
    assert isinstance(made[0], InstanceEvaluator)
    assert made[0].kinds == ("instance", "boundary")
    city = "cityscapes_fine_instance_seg_val"
    made = evaluators_of(task, catalog, city, "instance", "cityscapes")
    assert [type(each) for each in made] == [InstanceEvaluator, CityscapesEvaluator]


def test_lvis_takes_the_place_of_coco(task, catalog):
    (made,) = evaluators_of(task, catalog, "coco_2017_val", "lvis", "boundary")
    assert isinstance(made, InstanceEvaluator)
    assert (made.lvis, made.max_dets) == (True, 300)
    with pytest.raises(DataError, match=r"coco_2017_val: .* `instance` and `lvis`.*one of them"):
        evaluators_of(task, catalog, "coco_2017_val", "lvis", "instance")
