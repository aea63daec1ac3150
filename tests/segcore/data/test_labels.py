"""What label images and panoptic PNGs may hold, and what the rest raises."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import load
from PIL import Image
from tiny import make_dataset

from segcore.cli import doctor
from segcore.data import views
from segcore.data.views import StillViews
from segcore.errors import DataError
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.labels import read_ids, semantic_map
from segcore.structures import Frame, Metadata, PngId, Record, Result, Segment

THREE = Metadata("mine", ("a", "b", "c"), (0, 1, 2), (False,) * 3, ((0, 0, 0),) * 3)
VALUES = np.array([[0, 1, 2], [2, 255, 0]])


def classes(folder, pixels, metadata=THREE, name="x.png"):
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(folder / name)
    return semantic_map(Frame(Path("x.jpg"), semantic=folder / name), metadata).tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_values_are_classes(tmp_path, kind):
    assert classes(tmp_path, VALUES.astype(kind), name="x.tif") == [[0, 1, 2], [2, -1, 0]]
    assert classes(tmp_path, VALUES == 1) == [[0, 1, 0], [0, 0, 0]]  # one bit a pixel


@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        (VALUES.astype(np.uint8) + 1, "3"),  # counted from 1; 255 becomes 0
        (np.where(VALUES == 255, 254, VALUES).astype(np.uint8), "254"),
        (VALUES.astype(np.int32) + 2**30, f"{2**30}, {2**30 + 1}, {2**30 + 2}, {2**30 + 255}"),
        (np.arange(20, 40, dtype=np.uint8).reshape(4, 5), "20, 21, 22, 23, 24, ..."),
    ],
)
def test_values_that_are_no_class_raise(tmp_path, pixels, values):
    message = rf"x\.tif: \d+ pixels have a value that is no class: {values}; mine has 3 .*label_map"
    with pytest.raises(DataError, match=message):
        classes(tmp_path, pixels, name="x.tif")


def test_a_label_map_ignores_what_it_does_not_name(tmp_path):
    mapped = replace(THREE, label_map={1: 0, 7: 2}, ignore_label=300)
    pixels = np.array([[0, 1, 7], [8, 255, 1]], np.uint8)
    assert classes(tmp_path, pixels, mapped) == [[-1, 0, 2], [-1, -1, 0]]
    assert classes(tmp_path, pixels.astype(np.uint16) * 257, mapped) == [[-1] * 3] * 2


def test_evaluation_raises_too(tmp_path):
    Image.fromarray(np.full((2, 3), 3, np.uint8)).save(tmp_path / "x.png")
    record = Record(0, (2, 3), (Frame(Path("x.jpg"), semantic=tmp_path / "x.png"),))
    result = Result(semantic=torch.zeros(2, 3, dtype=torch.int16))
    with pytest.raises(DataError, match="no class: 3"):
        SemanticEvaluator(THREE).update(result, record)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (VALUES.astype(np.float32), "has float32 pixels; expected whole numbers from 0"),
        (VALUES.astype(np.int32) - 1, "has negative numbers; expected whole numbers from 0"),
    ],
)
def test_values_that_are_no_whole_numbers_raise(tmp_path, pixels, message):
    with pytest.raises(DataError, match=message):
        classes(tmp_path, pixels, name="x.tif")
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "x.tif")


def test_label_images_that_are_too_large_raise(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(DataError, match=r"x\.png: cannot be read as a label image.*exceeds limit"):
        classes(tmp_path, np.zeros((4, 5), np.uint8))


# ---------------------------------------------------------------- panoptic PNGs


def frame(folder, pixels, *numbers):
    Image.new("RGB", (3, 2)).save(folder / "x.jpg")
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(folder / "p.png")
    segments = tuple(Segment(0, PngId(number)) for number in numbers)
    return Record(0, (2, 3), (Frame(folder / "x.jpg", segments, folder / "p.png"),))


def sample(record):
    views = StillViews(metadata=THREE, targets="panoptic", steps=(), min_size=0, max_size=9)
    return views(record, np.random.default_rng(0))


def test_grey_with_alpha_raises(tmp_path):
    record = frame(tmp_path, Image.new("LA", (3, 2)), 0)
    with pytest.raises(DataError, match=r"p\.png: has 2 channels"):
        sample(record)


def test_ids_that_are_not_in_the_png(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(views, "_warned", set())
    ids = np.array([[1, 1, 1], [2, 2, 9]], np.uint8)
    for _ in range(2):
        targets = sample(frame(tmp_path, ids, 1, 2, 5, 6)).targets
    assert len(targets.labels) == 2
    assert caplog.text.count("has no pixel of 2 of the 4 segments") == 1
    with pytest.raises(DataError, match=r"p\.png: has none of the 2 segment ids.* first is 5"):
        sample(frame(tmp_path, ids, 5, 6))
    assert not len(sample(frame(tmp_path, ids)).targets.labels)


def test_doctor_reads_labels(tmp_path, capsys):
    make_dataset(tmp_path, 2)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    label = np.asarray(Image.open(tmp_path / "labels/01.png")).copy()
    label[0] = 3
    Image.fromarray(label).save(tmp_path / "labels/01.png")
    png = np.asarray(Image.open(tmp_path / "panoptic/00.png")).copy()
    png[png == 2] = 0
    Image.fromarray(png).save(tmp_path / "panoptic/00.png")
    names = [str(tmp_path / "labels"), str(tmp_path / "panoptic.json")]
    assert doctor.main(names=names, catalogs=[]) == 1
    printed = capsys.readouterr().out
    assert "labels/01.png: 80 pixels have a value that is no class: 3" in printed
    assert "panoptic/00.png: has no pixel of 1 of 3 segments" in printed


def test_real_label_images_hold_classes(shared_data):
    for name in ("camvid_480x360/labels/train", "dubai_aerial_cc0/labels/train"):
        metadata, records = load(f"{shared_data}/{name}")
        for record in records[:5]:
            semantic_map(record.frames[0], metadata)
