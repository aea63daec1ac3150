"""What is built for a test set."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from fake_task import make_task
from PIL import Image
from tiny import make_dataset

from segcore.build.data import test_metadata as metadata_of
from segcore.build.evaluators import build_evaluators
from segcore.data.catalog import Catalog
from segcore.errors import ConfigError, DataError
from segcore.evaluation.cityscapes import CityscapesEvaluator
from segcore.evaluation.contour import ContourEvaluator
from segcore.evaluation.entity import EntityEvaluator
from segcore.evaluation.instance import InstanceEvaluator
from segcore.labels import semantic_map

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
    odd = with_classes(task, ("Person ", *trained[1:]))
    assert metadata_of(odd, catalog, VAL) is catalog.metadata(VAL) and not caplog.text


def test_other_classes_are_refused(task, catalog):
    other = with_classes(task, ("human", *task.metadata.classes[1:]))
    with pytest.raises(
        ConfigError, match=r"the model 133 \(human, .*\), in which there is no person"
    ):
        metadata_of(other, catalog, VAL)
    entities = replace(task, makes=("entity",), metadata=task.metadata.as_entities())
    assert len(metadata_of(entities, catalog, "coco_2017_val").classes) == 80


def test_another_order_and_fewer_classes_are_read_by_name(task, catalog, caplog):
    own = catalog.metadata(VAL)
    turned = metadata_of(with_classes(task, own.classes[::-1]), catalog, VAL)
    assert turned.dataset_ids == own.dataset_ids[::-1] and turned.classes == own.classes[::-1]
    assert turned.is_thing == own.is_thing[::-1] and turned.label_map == {
        k: 132 - k for k in range(133)
    }
    assert "its classes are found by name among the model's 133" in caplog.text
    fewer = metadata_of(task, catalog, "coco_2017_val")
    assert fewer.classes == task.metadata.classes
    assert fewer.dataset_ids[:80] == catalog.metadata("coco_2017_val").dataset_ids
    assert fewer.absent == tuple(range(80, 133))
    assert len(set(fewer.dataset_ids)) == 133


@pytest.mark.parametrize(("kind", "kept"), [("instances", 2), ("panoptic", 3), ("labels", 3)])
def test_annotations_get_the_models_numbers(tmp_path, kind, kept):
    """Of a model that knows more classes, in another order."""
    make_dataset(tmp_path, 2)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    catalog = Catalog(tmp_path)
    name = f"{tmp_path}/{kind}{'' if kind == 'labels' else '.json'}@{tmp_path}/images"
    plain = catalog.metadata(name)
    known = ("sky", "ground", "Disc", "box")
    trained = replace(
        plain, classes=known, dataset_ids=(1, 2, 3, 4), is_thing=(False, False, True, True),
        colors=((0, 0, 0),) * 4,
    )  # fmt: skip
    metadata = metadata_of(replace(make_task(), metadata=trained), catalog, name)
    table = np.array([*(known.index("Disc" if c == "disc" else c) for c in plain.classes), -1])
    before, after = catalog.records(name), catalog.records(name, metadata)
    for a, b in zip(before, after, strict=True):
        assert [table[s.category] for s in a.frames[0].segments] == [
            s.category for s in b.frames[0].segments
        ]
        if kind != "instances":
            expected = table[semantic_map(a.frames[0], plain)]
            assert np.array_equal(semantic_map(b.frames[0], metadata), expected)
    if kind == "labels":
        raw = np.full((72, 64), 7, np.uint8)
        Image.fromarray(raw).save(tmp_path / "labels/00.png")
        with pytest.raises(DataError, match="have a value that is no class: 7"):
            semantic_map(after[0].frames[0], metadata)
    assert len(metadata.absent) == 4 - kept


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


def test_the_predictions_that_count_are_a_setting_of_ap_alone(task, catalog):
    metadata = replace(catalog.metadata(VAL), evaluators=("instance", "boundary", "contour"))
    instances, _ = build_evaluators(replace(task, makes=("instance",)), catalog, metadata)
    more, _ = build_evaluators(replace(task, makes=("instance",)), catalog, metadata, max_dets=250)
    assert isinstance(instances, InstanceEvaluator)
    assert isinstance(more, InstanceEvaluator)
    assert (instances.max_dets, more.max_dets) == (100, 250)
    entities, *_ = build_evaluators(
        replace(task, makes=("entity",)), catalog, metadata, max_dets=250
    )
    assert isinstance(entities, EntityEvaluator)
    assert entities.inner.max_dets == 250
