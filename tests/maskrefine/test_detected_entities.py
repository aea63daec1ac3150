"""A two-stage detector that finds entities: one class, masks that do not overlap."""

import numpy as np
import pytest
import torch
from tiny import make_dataset

from maskrefine.postprocess import entities_of
from segcore import masks
from segcore.build.data import catalog, train_metadata
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.structures import Batch, Instances


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    file = make_dataset(tmp_path_factory.mktemp("entities"))
    given = {
        "DATASETS.CATALOGS": f"[{file}]",
        "DATASETS.TRAIN": "[tiny_panoptic]",
        "ENTITY.ENABLE": "true",
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "outside.networks:build_backbone",
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0",
    }
    return [word for pair in given.items() for word in pair]


def test_things_and_stuff_are_learnt_as_one_class_and_come_apart(opts):
    cfg = load_config("tiny/detector_tiny.yaml", opts)
    sets = catalog(cfg)
    task = build_task(cfg, train_metadata(cfg, sets))
    assert task.makes == ("entity",)
    assert task.metadata.classes == ("entity",)
    records = list(sets.read("tiny_panoptic"))[:2]
    rng = np.random.default_rng(0)
    batch = Batch.collate([task.views(record, rng) for record in records])
    assert [len(t.labels) for t in batch.targets] == [len(r.frames[0].segments) for r in records]
    assert not any(t.labels.any() for t in batch.targets)
    outputs = task.model.train()(batch.images, batch.sizes, batch.targets)
    assert torch.isfinite(sum(task.losses(outputs, batch.targets, batch.counts()).values()))
    tested = Batch.collate([task.views(record, None) for record in records])
    for result in task.postprocess(task.infer(tested, torch.device("cpu")), tested):
        assert len(result.instances.masks) > 1
        total = sum(masks.decode(rle).astype(int) for rle in result.instances.masks)
        assert total.max() <= 1
        assert (result.panoptic.map.numpy() > 0).sum() == total.sum()


def test_a_pixel_is_of_the_best_scored_entity():
    shapes = np.zeros((3, 6, 6), bool)
    shapes[0, :4], shapes[1, 2:], shapes[2, 3:4] = True, True, True
    found = Instances(
        torch.tensor([0.9, 0.5, 0.2]),
        torch.zeros(3, dtype=torch.int64),
        masks.encode(shapes),
        torch.zeros(3, 4),
    )
    result = entities_of(found, (6, 6))
    assert masks.area(result.instances.masks).tolist() == [24, 12, 0]
    assert [segment.id for segment in result.panoptic.segments] == [1, 2]
    assert result.instances.boxes[1].tolist() == [0, 4, 6, 6]
    nothing = Instances(torch.zeros(0), found.labels[:0], [], torch.zeros(0, 4))
    assert not entities_of(nothing, (6, 6)).panoptic.map.any()
