"""Formats: which one a path is of, and one from outside of this project."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from loading import load

from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.data.formats.table import FORMATS, all_formats, recognised
from segcore.data.views import StillViews
from segcore.errors import DataError
from segcore.structures import Polygons

BOXES = "00.png disc 10 12 30 40\n00.png box 1 2 3 4\n01.png box 5 6 7 8\n"


def test_formats_are_a_table():
    assert {"coco_instances", "coco_panoptic", "label_png"} <= FORMATS.keys()
    assert [format.name for format in all_formats()] == list(FORMATS)


def test_paths_are_data_sets(tiny):
    for name in ("panoptic.json", "instances.json"):
        metadata, records = load(str(tiny / name))
        assert metadata.classes[:2] == ("box", "disc")
        assert records[3].frames[0].file.exists()
    with pytest.raises(DataError, match=r"classes\.json"):
        load(f"{tiny}/labels@{tiny}/images")


# ---------------------------------------------------------------- which one a path is of


def files(tiny, folder):
    """Of every kind, some of them damaged."""
    (folder / "panoptic").write_text((tiny / "panoptic.json").read_text())  # no suffix
    (folder / "instances").write_text("\ufeff \n" + (tiny / "instances.json").read_text())
    (folder / "cut.json").write_text((tiny / "panoptic.json").read_text()[:100])
    (folder / "empty.json").touch()
    (folder / "list.json").write_text("[1]")
    (folder / "list.txt").write_text("a.png a.png\n")
    (folder / "labels").mkdir()
    return folder


@pytest.mark.parametrize(
    ("file", "formats"),
    [
        ("panoptic", ["coco_panoptic", "coco_instances"]),  # the first one counts
        ("instances", ["coco_instances"]),
        ("cut.json", ["coco_instances"]),  # which says what is wrong with it
        ("empty.json", ["coco_instances"]),
        ("list.json", ["coco_instances"]),
        ("list.txt", []),
        ("labels", ["label_png"]),
        ("gone", []),
    ],
)
def test_every_format_knows_its_files(tiny, tmp_path, file, formats):
    path = files(tiny, tmp_path) / file
    assert [format.name for format in all_formats() if format.recognises(path)] == formats
    if formats:
        assert recognised(path).name == formats[0]
    else:
        with pytest.raises(DataError, match=rf"{file}: is neither .* FORMAT=.*coco_panoptic, "):
            recognised(path)


def test_a_format_may_be_stated(tiny, tmp_path):
    catalog = Catalog(tmp_path)
    path = tiny / "panoptic.json"
    assert catalog.entry(str(path)).format.name == "coco_panoptic"
    entry = catalog.entry(f"coco_instances={path}@{tiny}/images")
    assert (entry.format.name, entry.source.annotations) == ("coco_instances", path)
    assert entry.source.images == tiny / "images"
    (tmp_path / "lr=1").mkdir()  # a path with an equals sign
    (tmp_path / "lr=1" / "x.json").write_text(path.read_text())
    name = f"{tmp_path}/lr=1/x.json@{tiny}/images"
    assert catalog.entry(name).source.annotations == tmp_path / "lr=1" / "x.json"


@pytest.mark.parametrize("name", ["label_list", "cityscapes_panoptic"])
def test_formats_without_usual_places_raise_where_images_are_not_named(tmp_path, name):
    with pytest.raises(DataError, match=rf"{tmp_path}: "):
        Catalog(tmp_path).entry(f"{name}={tmp_path}")
    with pytest.raises(DataError, match=rf"{name} do not say what the classes are"):
        Catalog(tmp_path).metadata(f"{name}={tmp_path}@{tmp_path}")


# ---------------------------------------------------------------- from outside


@pytest.fixture
def boxes(tiny, tmp_path):
    (tmp_path / "my.boxes").write_text(BOXES)
    (tmp_path / "images").symlink_to(tiny / "images")
    return tmp_path


def test_a_format_from_outside_by_path(tiny, boxes):
    for images in ("", f"@{tiny}/images"):
        name = f"outside.boxes:FORMAT={boxes}/my.boxes{images}"
        assert [name] == load_config(None, ["DATASETS.TRAIN", f"[{name}]"]).DATASETS.TRAIN
        metadata, records = load(name)
        assert (metadata.classes, metadata.evaluators) == (("box", "disc"), ("instance",))
        assert (metadata.dataset_ids, metadata.is_thing) == ((0, 1), (True, True))
        assert [r.id for r in records] == ["00.png", "01.png"]
        assert records[0].size == (72, 64)
        first = records[0].frames[0].segments[0]
        assert (first.category, first.shape) == (1, Polygons(((10, 12, 30, 12, 30, 40, 10, 40),)))
    views = StillViews(metadata=metadata, targets="instance", steps=[], min_size=0, max_size=99)
    targets = views(records[0], np.random.default_rng(0)).targets
    assert targets.masks.sum((1, 2, 3)).tolist() == [20 * 28, 2 * 2]


def test_a_format_from_outside_in_a_catalogue(boxes):
    (boxes / "mine.yaml").write_text(
        "reader: outside.boxes:FORMAT\nclasses: [disc, box]\n"
        "names: {mine: {images: images, annotations: my.boxes}}\n"
    )
    metadata, records = load("mine", files=[boxes / "mine.yaml"])
    assert metadata.classes == ("disc", "box")
    assert [s.category for s in records[0].frames[0].segments] == [0, 1]


def test_faults_of_a_format_from_outside_are_reported(boxes):
    (boxes / "my.boxes").write_text(BOXES + "01.png hole 1 2 3 4\n")
    (boxes / "mine.yaml").write_text(
        "reader: outside.boxes:FORMAT\nclasses: [disc, box]\n"
        "names: {mine: {images: images, annotations: my.boxes}}\n"
    )
    catalog, problems = Catalog(boxes, [boxes / "mine.yaml"]), []
    with pytest.raises(DataError, match="has class 'hole'"):
        catalog.read("mine")
    assert len(catalog.read("mine", problems.append)[1].frames[0].segments) == 1
    assert [problem.image for problem in problems] == ["01.png"]


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("outside.nothing:FORMAT", "reader 'outside.nothing:FORMAT' cannot be imported"),
        ("outside.boxes:NOTHING", r"boxes\.py has no NOTHING"),
        ("outside.boxes:read", "outside.boxes:read is function; expected a Format"),
        ("boxes", "unknown reader 'boxes'; there are coco_panoptic, "),
        ("a/b:c", "is 'a/b:c'; expected package.module:function"),
    ],
)
def test_readers_that_are_none_raise(tmp_path, reader, message):
    names = "names: {mine: {images: images, annotations: my.boxes}}"
    (tmp_path / "mine.yaml").write_text(f"reader: {reader}\n{names}\n")
    with pytest.raises(DataError, match=rf"^mine: .*{message}"):
        Catalog(tmp_path, [tmp_path / "mine.yaml"]).metadata("mine")


@pytest.mark.parametrize("pngs", ["train_panoptic", "panoptic_train", "train"])
def test_pngs_of_a_panoptic_file_are_beside_it_where_its_name_is_that_of_the_images(
    tiny, tmp_path, pngs
):
    images = tmp_path / ("images" if pngs == "train" else "train")
    shutil.copytree(tiny / "images", images)
    shutil.copytree(tiny / "panoptic", tmp_path / pngs)
    (tmp_path / "train.json").write_text((tiny / "panoptic.json").read_text())
    _, records = load(str(tmp_path / "train.json"))
    assert {record.frames[0].file.parent for record in records} == {images}
    assert {record.frames[0].panoptic.parent for record in records} == {tmp_path / pngs}
