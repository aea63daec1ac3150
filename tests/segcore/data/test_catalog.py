"""Names of data sets: the catalogue, the user's own, and paths."""

import io
import json
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
import yaml
from loading import load
from PIL import Image
from tiny import make_dataset

from segcore.data.catalog import Catalog
from segcore.data.formats import coco_head
from segcore.data.parsing import json_stream
from segcore.errors import DataError

UPSTREAM = [
    *[f"coco_2017_{s}{kind}" for s in ("train", "val")
      for kind in ("", "_panoptic", "_panoptic_with_sem_seg")],
    *[f"coco_2017_{s}_stuff_10k_sem_seg" for s in ("train", "test")],
    *[f"ade20k_{kind}_{s}" for s in ("train", "val")
      for kind in ("sem_seg", "panoptic", "instance", "full_sem_seg")],
    *[f"cityscapes_fine_{kind}_{s}" for s in ("train", "val", "test")
      for kind in ("instance_seg", "sem_seg")],
    *[f"cityscapes_fine_panoptic_{s}" for s in ("train", "val")],
    *[f"mapillary_vistas_{kind}_{s}" for s in ("train", "val") for kind in ("sem_seg", "panoptic")],
]  # fmt: skip


@pytest.mark.parametrize("name", UPSTREAM)
def test_names_of_the_old_repository(name):
    metadata = Catalog(Path("nowhere")).metadata(name)
    K = len(metadata.classes)
    assert K == len(metadata.dataset_ids) == len(metadata.colors) == len(metadata.is_thing)
    assert len(set(metadata.classes)) == K or "full" in name  # which has two of a name
    assert metadata.evaluators
    with pytest.raises(DataError, match=r"nowhere/.*DETECTRON2_DATASETS"):
        load(name)


def test_tables_of_instances_have_boundaries_and_cityscapes_its_own_ap():
    catalog = Catalog(Path("nowhere"))
    for name in UPSTREAM:
        evaluators = catalog.metadata(name).evaluators
        assert ("boundary" in evaluators) == ("instance" in evaluators), name
        own = name.startswith("cityscapes") and "instance" in evaluators and "test" not in name
        assert ("cityscapes" in evaluators) == own, name


def test_paths_of_the_old_repository():
    entry = Catalog(Path("/data")).entry("coco_2017_train_panoptic").source
    assert entry.annotations == Path("/data/coco/annotations/panoptic_train2017.json")
    assert entry.more["panoptic"] == Path("/data/coco/panoptic_train2017")
    entry = Catalog(Path("/data")).entry("ade20k_sem_seg_val").source
    assert entry.annotations == Path("/data/ADEChallengeData2016/annotations_detectron2/validation")


def test_numbers_that_files_and_models_depend_on():
    ade = Catalog(Path()).metadata("ade20k_panoptic_val")
    assert [k for k, thing in enumerate(ade.is_thing) if thing][:6] == [7, 8, 10, 12, 14, 15]
    assert Catalog(Path()).metadata("ade20k_full_sem_seg_val").ignore_label == 65535
    vistas = Catalog(Path()).metadata("mapillary_vistas_panoptic_val")
    assert (vistas.ignore_label, vistas.dataset_ids[0], vistas.dataset_ids[-1]) == (65, 1, 65)
    city = Catalog(Path()).metadata("cityscapes_fine_panoptic_val")
    assert city.classes[11:] == (
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"
    )  # fmt: skip
    assert city.dataset_ids[11:] == (24, 25, 26, 27, 28, 31, 32, 33)
    assert city.is_thing == (False,) * 11 + (True,) * 8
    coco = Catalog(Path()).metadata("coco_2017_val_panoptic")
    assert coco.dataset_ids[79:82] == (90, 92, 93)


def test_lists_of_test_images():
    for name, file in (("test", "image_info_test2017"), ("test-dev", "image_info_test-dev2017")):
        entry = Catalog(Path("/data")).entry(f"coco_2017_{name}").source
        assert entry.annotations == Path(f"/data/coco/annotations/{file}.json")
        assert entry.images == Path("/data/coco/test2017")
        metadata = Catalog(Path("nowhere")).metadata(f"coco_2017_{name}")
        assert (len(metadata.classes), metadata.evaluators) == (80, ())


def test_own_entries(tmp_path):
    make_dataset(tmp_path)
    (tmp_path / "classes.yaml").write_text("names: [disc, box]\nids: [7, 3]\n")
    (tmp_path / "mine.yaml").write_text(
        """reader: coco_instances
evaluators: [instance, boundary]
classes: classes.yaml
names:
  mine_train: {images: images, annotations: instances.json}
  mine_val: {images: images, annotations: instances.json}
"""
    )
    metadata, records = load("mine_val", Path("nowhere"), [tmp_path / "mine.yaml"])
    assert metadata.classes == ("disc", "box")
    assert metadata.evaluators == ("instance", "boundary")
    plain, others = load(str(tmp_path / "instances.json"))
    for ours, theirs in zip(records, others, strict=True):
        names = [metadata.classes[s.category] for s in ours.frames[0].segments]
        assert names == [plain.classes[s.category] for s in theirs.frames[0].segments]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader: x", "needs `reader` and `names`"),
        ("reader: nope\nnames: {mine: {images: a, annotations: b}}", "unknown reader 'nope'"),
        ("reader: coco_instances\nnames: {mine: {images: a}}", "needs `images` and `annotations`"),
        ("reader: coco_instances\nnames: {mine: {images: a, annotations: b, x: c}}", "may have"),
        ("reader: coco_instances\nclass: 1\nnames: {mine: {}}", r"unknown \['class'\]"),
        ("reader: [", "not valid YAML"),
        (
            "reader: coco_instances\nclasses: c.yaml\nnames: {mine: {images: a, annotations: b}}",
            r"c\.yaml: class list not found",
        ),
        (
            "reader: coco_instances\nclasses: 3\nnames: {mine: {images: a, annotations: b}}",
            "must be a list of names",
        ),
        (
            "reader: label_png\nclasses: {names: [a, b], colors: [[0, 0, 0]]}\n"
            "names: {mine: {images: a, annotations: b}}",
            "2 class names but 1 colors",
        ),
        (
            "reader: label_png\nclasses: {names: [a], colors: [red]}\n"
            "names: {mine: {images: a, annotations: b}}",
            "'red' is no colour",
        ),
    ],
)
def test_broken_entries_raise(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        Catalog(Path(), [tmp_path / "mine.yaml"]).metadata("mine")


def test_unknown_names_get_the_nearest_ones(tmp_path):
    with pytest.raises(
        DataError, match=r"'ade20k_panoptic_vall'; nearest names: ade20k_panoptic_v"
    ):
        Catalog(Path()).metadata("ade20k_panoptic_vall")
    with pytest.raises(DataError, match=r"gone\.yaml: catalogue file not found"):
        Catalog(Path(), [tmp_path / "gone.yaml"]).metadata("x")
    with pytest.raises(DataError, match=r"gone\.json: not found \(looked for /"):
        Catalog(Path()).metadata(f"{tmp_path}/gone.json")


def test_images_beside_annotations_or_the_places_that_were_tried(tmp_path):
    make_dataset(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photographs")
    with pytest.raises(DataError, match=r"tried .*/instances, .*/images.*instances\.json@IMAGES"):
        Catalog(Path()).metadata(f"{tmp_path}/instances.json")
    name = f"{tmp_path}/instances.json@{tmp_path}/photographs"
    assert load(name)[1][0].frames[0].file.exists()
    (tmp_path / "images" / "instances").mkdir(parents=True)
    for decoy in ("instances/x.png", "00.png"):  # a folder of other pictures comes first
        Image.new("L", (2, 2)).save(tmp_path / "images" / decoy)
    for annotations in ("instances.json", "labels"):
        assert (
            Catalog(Path()).entry(f"{tmp_path}/{annotations}").source.images == tmp_path / "images"
        )


def test_signs_that_also_part_annotations_and_images(tmp_path):
    home = tmp_path / "we@ird"
    make_dataset(home, 2)
    alone = str(home / "instances.json")
    for name in (alone, f"{alone}@{home}/images"):
        entry = Catalog(Path()).entry(name).source
        assert (entry.annotations, entry.images) == (home / "instances.json", home / "images")
    with pytest.raises(DataError, match="not found"):
        Catalog(Path()).entry(f"{home}/gone.json@{home}/images")


def test_classes_beside_label_images(tmp_path):
    make_dataset(tmp_path)
    name = f"{tmp_path}/labels@{tmp_path}/images"
    with pytest.raises(DataError, match=r'classes\.json \(\{"names".*looked for .*/labels/classes'):
        Catalog(Path()).metadata(name)
    content = {"classes": ["box", "disc", "ground"], "ignore_index": 7, "palette": [[1, 2, 3]] * 3}
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(content))
    metadata = Catalog(Path()).metadata(name)
    assert (metadata.classes[2], metadata.ignore_label) == ("ground", 7)
    assert metadata.colors == ((1, 2, 3),) * 3
    assert not any(metadata.is_thing)


@pytest.fixture
def opened(monkeypatch):
    """How often each file is opened from now on."""
    counts, really = Counter(), io.open

    def counted(file, *args, **options):
        counts[str(file)] += 1
        return really(file, *args, **options)

    monkeypatch.setattr(io, "open", counted)  # which pathlib calls
    return counts


def test_a_catalogue_reads_each_file_once(tmp_path, opened):
    make_dataset(tmp_path)
    content = (tmp_path / "tiny.yaml").read_text()
    truth = "panoptic: panoptic, instances: instances.json}"
    (tmp_path / "tiny.yaml").write_text(content.replace("panoptic: panoptic}", truth))
    catalog = Catalog(tmp_path, [tmp_path / "tiny.yaml"])
    opened.clear()
    for _ in range(3):
        assert {"tiny_panoptic", "coco_2017_val"} <= set(catalog.names())
        for name in ("tiny_panoptic", "tiny_semantic"):
            assert catalog.metadata(name) is catalog.metadata(name)
            assert catalog.records(name) is catalog.records(name)
            assert catalog.entry(name) is catalog.entry(name)
        truth = catalog.truth("tiny_panoptic")
        assert truth is not None and truth(catalog.records("tiny_panoptic")[0]).id == 0
        assert catalog.truth("tiny_semantic") is None
    assert opened[f"{tmp_path}/tiny.yaml"] == 1
    assert opened[f"{tmp_path}/panoptic.json"] == 2  # its classes, then its records
    assert opened[f"{tmp_path}/instances.json"] == 1
    assert {name: n for name, n in opened.items() if n > 1 and name.endswith(".yaml")} == {}
    assert catalog.read("tiny_panoptic") is not catalog.records("tiny_panoptic")
    assert opened[f"{tmp_path}/panoptic.json"] == 3


def test_a_changed_file_is_read_again(tmp_path):
    make_dataset(tmp_path)
    path = tmp_path / "panoptic.json"
    assert Catalog(Path()).metadata(str(path)).classes == ("box", "disc", "ground")
    path.write_text(path.read_text().replace('"disc"', '"round"'))
    assert Catalog(Path()).metadata(str(path)).classes == ("box", "round", "ground")


@pytest.mark.parametrize("order", permutations(("images", "annotations", "categories")))
@pytest.mark.parametrize("tail", [0, 1 << 24])
def test_heads_of_large_files_are_those_of_small_ones(tmp_path, monkeypatch, order, tail):
    make_dataset(tmp_path, 2)
    monkeypatch.setattr(json_stream, "TAIL", tail)
    for name in ("panoptic.json", "instances.json"):
        path = tmp_path / name
        content = json.loads(path.read_text())
        plain, small = Catalog(Path()).entry(str(path)), Catalog(Path()).metadata(str(path))
        path.write_text(json.dumps({key: content[key] for key in order}))
        monkeypatch.setattr(coco_head, "LARGE", 0)
        coco_head._read_head.cache_clear()
        assert Catalog(Path()).entry(str(path)) == plain
        assert Catalog(Path()).metadata(str(path)) == small


def test_a_head_is_read_no_further_than_it_goes(tmp_path):
    make_dataset(tmp_path, 2)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    order = ("categories", "images", "annotations")
    path.write_text(json.dumps({key: content[key] for key in order})[:-10])
    assert Catalog(Path()).metadata(str(path)).classes == ("box", "disc")
    with pytest.raises(DataError, match="not valid JSON"):
        load(str(path))


def test_metadata_of_the_standard_sets():
    for name, classes, things in (
        ("coco_2017_val", 80, 80),
        ("coco_2017_val_panoptic_with_sem_seg", 133, 80),
        ("ade20k_sem_seg_val", 150, 100),
        ("ade20k_panoptic_train", 150, 100),
        ("ade20k_instance_val", 100, 100),
        ("ade20k_full_sem_seg_val", 847, 0),
        ("cityscapes_fine_panoptic_val", 19, 8),
        ("cityscapes_fine_instance_seg_val", 8, 8),
        ("mapillary_vistas_panoptic_val", 65, 37),
        ("coco_2017_test_stuff_10k_sem_seg", 171, 0),
    ):
        metadata = Catalog(Path("nowhere")).metadata(name)
        assert (len(metadata.classes), sum(metadata.is_thing)) == (classes, things), name
        assert len(metadata.colors) == classes
