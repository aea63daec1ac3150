"""What a plan knows of a data set, in every form of annotation."""

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.data.catalog import Catalog
from segcore.data.stroke_widths import stroke_widths
from segcore.errors import DataError
from segcore.plan.read_facts import data_facts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts")
    make_dataset(folder)
    return folder


def facts_of(folder, name):
    catalog = Catalog(folder, [folder / "tiny.yaml"])
    return data_facts(catalog.read(name), catalog.metadata(name))


def test_objects_are_measured_in_files_and_in_panoptic_pngs(folder):
    objects, everything = (facts_of(folder, f"tiny_{k}") for k in ("instances", "panoptic"))
    assert objects.images == everything.images == 8
    assert everything.objects(50) == objects.objects(50) + 1  # the ground
    assert set(np.round(objects.sides, 6)) <= set(np.round(everything.sides, 6))
    assert 15 < np.median(objects.sides) < 30
    assert objects.edge == 64
    assert objects.aspect == 1.25
    assert objects.is_thing == (True, True)
    assert not objects.labels
    assert not everything.labels


def test_label_images_have_strokes_and_no_objects(folder):
    facts = facts_of(folder, "tiny_semantic")
    assert facts.labels
    assert not facts.counts.any()
    assert facts.strokes.keys() == {"box", "disc", "ground"}
    assert 0.1 < facts.strokes["disc"] < 0.3


def test_strokes_of_a_bar_are_its_width():
    labels = np.zeros((40, 400), int)
    labels[10:14] = 1
    labels[:, 390:] = -1
    assert stroke_widths(labels)[1] == pytest.approx(4, rel=0.05)
    assert stroke_widths(np.zeros((4, 4), int)) == {}


def test_nothing_annotated_raises(tmp_path):
    make_dataset(tmp_path)
    file = tmp_path / "instances.json"
    text = file.read_text()
    file.write_text(text[: text.index('"annotations"')] + '"annotations": [], "categories": []}')
    Image.new("L", (4, 4)).save(tmp_path / "unused.png")
    with pytest.raises(DataError):
        facts_of(tmp_path, f"{file}@{tmp_path}/images")
