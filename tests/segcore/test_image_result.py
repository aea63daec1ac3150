"""Results that know their image: as pictures, as COCO's entries, for supervision."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import segcore
from segcore import masks
from segcore.cli.train_call import words_of
from segcore.config import load_config
from segcore.errors import ConfigError
from segcore.image_result import ImageResult
from segcore.structures import Instances, Metadata, Panoptic, PanopticSegment, Result, Tracks

METADATA = Metadata(
    "drawn", ("box", "disc", "ground"), (3, 7, 9), (True, True, False),
    ((220, 0, 0), (0, 220, 0), (0, 0, 220)),
)  # fmt: skip
PIXELS = np.full((20, 30, 3), 100, np.uint8)


def rectangle(y, x, h, w):
    mask = np.zeros((20, 30), bool)
    mask[y : y + h, x : x + w] = True
    return mask


MASKS = np.stack([rectangle(2, 3, 5, 8), rectangle(10, 12, 6, 4)])


def of(result, image=PIXELS, number=4):
    return ImageResult.of(result, image, number, METADATA)


@pytest.fixture
def instances():
    rles = masks.encode(MASKS)
    boxes = torch.tensor([[3.0, 2, 11, 7], [12, 10, 16, 16]])
    return of(
        Result(instances=Instances(torch.tensor([0.9, 0.3]), torch.tensor([1, 0]), rles, boxes))
    )


@pytest.fixture
def panoptic():
    ids = torch.from_numpy(MASKS[0] * 1 + MASKS[1] * 2).int()
    segments = [PanopticSegment(1, 1, True, 0.9, 40), PanopticSegment(2, 2, False, 0.3, 24)]
    return of(Result(panoptic=Panoptic(ids, segments)))


def test_instances_become_detections(instances):
    found = instances.to_supervision(threshold=0)
    assert found.xyxy.tolist() == [[3, 2, 11, 7], [12, 10, 16, 16]]
    assert np.array_equal(found.mask, MASKS)
    assert found.class_id.tolist() == [1, 0]
    assert found["class_name"].tolist() == ["disc", "box"]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.3])
    assert len(instances.to_supervision()) == 1


@pytest.mark.parametrize("path", [False, True])
def test_an_image_without_a_segment_becomes_detections_of_length_zero(instances, tmp_path, path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    image = tmp_path / "a.png" if path else PIXELS
    unsure = of(instances, image).to_supervision(threshold=0.95)
    for found in (unsure, of(Result(), image).to_supervision()):
        assert (found.mask.shape, found.mask.dtype) == ((0, 20, 30), bool)
        assert (found.xyxy.shape, len(found.confidence), len(found["class_name"])) == ((0, 4), 0, 0)
        assert np.issubdtype(found.class_id.dtype, np.integer) and len(found.class_id) == 0
        assert found.is_empty()
        assert found[found.class_id == 1].mask.any(axis=(1, 2)).tolist() == []


def test_panoptic_segments_become_detections_and_entries(panoptic):
    assert np.array_equal(panoptic.to_supervision(threshold=0).mask, MASKS)
    first, second = panoptic.to_coco()
    assert (first["category_id"], second["category_id"]) == (7, 9)
    assert first["bbox"] == [3, 2, 8, 5]
    assert np.array_equal(masks.decode(masks.from_text(second["segmentation"])), MASKS[1])


def test_classes_of_a_semantic_map_become_entries():
    classes = torch.from_numpy(np.where(MASKS[0], 1, 2)).byte()
    first, second = of(Result(semantic=classes)).to_coco(image_id=5)
    assert (first["category"], second["category"], first["image_id"]) == ("disc", "ground", 5)


@pytest.mark.parametrize(
    ("image", "name"), [(PIXELS, 4), ("a/000012.jpg", 12), ("a/street.jpg", "street")]
)
def test_entries_have_the_number_or_name_of_their_image(instances, image, name):
    entries = of(instances, image).to_coco()
    assert [entry["image_id"] for entry in entries] == [name, name]


def test_the_picture_shows_what_is_sure(instances, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for image in (PIXELS, Image.fromarray(PIXELS), tmp_path / "a.png"):
        result = of(instances, image)
        assert (np.asarray(result.plot()) != PIXELS).any(2)[MASKS[0]].all()
        assert np.array_equal(np.asarray(result.plot(threshold=0.95)), PIXELS)
        assert not np.array_equal(np.asarray(result.plot(threshold=0.2)), np.asarray(result.plot()))
    shown = Image.open(io.BytesIO(instances._repr_png_()))
    assert np.array_equal(np.asarray(shown), np.asarray(instances.plot()))
    assert repr(instances) == "<image 4: 1 disc>"
    assert repr(of(Result(), "street.jpg")) == "<street.jpg: nothing>"


def test_tracks_of_one_image_are_shown_as_instances(instances):
    found = instances.instances
    tracks = Tracks(found.scores, found.labels, [[rle] for rle in found.masks])
    shown = of(Result(tracks=tracks))
    assert np.array_equal(np.asarray(shown.plot()), np.asarray(instances.plot()))
    assert shown.to_coco() == instances.to_coco()


def test_a_missing_supervision_raises_its_extra(instances, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match=r"pip install 'segcore\[supervision\]'"):
        instances.to_supervision()


def test_values_of_python_become_the_words_of_a_config():
    given = {
        "SOLVER": {"MAX_ITER": 3, "BASE_LR": 1e-5, "EMA": {"DECAY": 0.5}},
        "MODEL.DEVICE": "cpu",
        "MODEL": {"WEIGHTS": "010 #x", "COMPILE": True},
        "DATASETS.TRAIN": ["my, own/ä.json", "b"],
    }
    cfg = load_config(None, words_of(given))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.EMA.DECAY) == (3, 1e-5, 0.5)
    assert (cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.COMPILE) == ("cpu", "010 #x", True)
    assert cfg.DATASETS.TRAIN == ["my, own/ä.json", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "got 0 data sets and no config"),
        ({"data": ["a", "b"]}, "got 2 data sets and no config"),
        ({"data": "a#train", "config": "c.yaml"}, "a#train is a part"),
        ({"data": "a", "config": "c.yaml", "minutes": 3}, "minutes is for a plan"),
        ({"data": "a", "config": "c.yaml", "overwrite": True}, "overwrite is for a plan"),
        ({"data": "a", "resume": True, "overwrite": True}, "is resumed keeps its plan"),
    ],
)
def test_what_train_cannot_use_raises(given, message):
    with pytest.raises(ConfigError, match=message):
        segcore.train(**given)
