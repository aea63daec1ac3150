"""Every fault of a data set at once; what is not spoilt is there all the same."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.data import doctor
from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.errors import DataError

SQUARE = [[1, 1, 4, 1, 4, 3]]
GOOD = {"image_id": 5, "category_id": 9, "segmentation": SQUARE}
RLE = {"size": [4, 6], "counts": "52a0"}
BROKEN = [  # annotations, the kind of each and its number
    ({"category_id": 3}, "category", 100),
    ({"segmentation": "x"}, "segmentation", 101),
    ({"segmentation": RLE | {"counts": "52g0"}}, "segmentation", 102),
    ({"segmentation": RLE | {"size": [6, 4]}}, "segmentation", 103),
    ({"image_id": 77}, "unlisted image", 104),
    ({"image_id": [5]}, "annotation entry", 105),
    ({"category_id": None}, "annotation entry", 106),
    ({"iscrowd": "no"}, "annotation entry", 107),
]


def coco(folder):
    """Faults of every kind between what is right."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in (4, 5, 6)]
    wrong = [images[1], {"id": 8, "file_name": "8.png", "height": "4", "width": 6}, {"id": 9}, 3]
    annotations = [
        GOOD | {"id": 1},
        *(GOOD | {"id": number} | change for change, _, number in BROKEN),
        "nonsense",
        GOOD | {"id": 2, "image_id": 8},  # goes with its image
        *(GOOD | {"id": 10 + i, "image_id": 6, "segmentation": RLE} for i in range(70)),
        GOOD | {"id": 3, "segmentation": RLE},
    ]
    content = {"images": images + wrong, "annotations": annotations}
    content["categories"] = [{"id": 9, "name": "nine"}]
    for image in images:
        Image.new("L", (6, 4)).save(folder / image["file_name"])
    (folder / "x.json").write_text(json.dumps(content))
    return f"{folder}/x.json@{folder}"


def test_all_faults_of_a_coco_file(tmp_path):
    catalog, problems = Catalog(tmp_path), []
    records = catalog.read(coco(tmp_path), problems.append)
    by_number = {p.annotation: p.kind for p in problems if isinstance(p.annotation, int)}
    assert by_number == {number: kind for _, kind, number in BROKEN}
    assert Counter(p.kind for p in problems) == {
        "image entry": 4, "annotation entry": 4, "category": 1, "segmentation": 3,
        "unlisted image": 1,
    }  # fmt: skip
    assert {p.image for p in problems if p.kind == "image entry"} == {None, 5, 8, 9}
    assert all(p.path == tmp_path / "x.json" and str(p.path) in p.message for p in problems)
    assert [(r.id, len(r.frames[0].segments)) for r in records] == [(4, 0), (5, 2), (6, 70)]


def test_training_raises_at_the_first_of_them(tmp_path):
    with pytest.raises(DataError, match="image 5 is listed twice"):
        Catalog(tmp_path).read(coco(tmp_path))


def test_all_faults_of_a_panoptic_file(tmp_path):
    make_dataset(tmp_path)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    first, second, third, *_, last = content["annotations"]
    first["segments_info"][0]["category_id"] = 4
    second["segments_info"].append({"id": 7})
    content["annotations"] += [third | {"segments_info": []}, last | {"image_id": 99}]
    last.pop("file_name")
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    problems = []
    name = f"{tmp_path}/panoptic.json@{tmp_path}/images"
    records = Catalog(tmp_path).read(name, problems.append)
    assert [(p.kind, p.image) for p in problems] == [
        ("segment entry", 1),
        ("annotation entry", 7),
        ("unlisted image", 99),
        ("category", 0),
        ("annotations of one image", 2),
        ("image without an annotation", 7),
    ]
    assert [r.id for r in records] == list(range(7))
    assert [len(r.frames[0].segments) for r in records[:3]] == [2, 3, 3]  # the first one counts


@pytest.mark.parametrize(
    ("from_id", "to_id", "kind", "said"),
    [
        (None, 77, "pixels of a segment id that is not listed", r"4 pixels have an id \(77\)"),
        ("first", 0, "segment id 0", "has the id 0, which others take for no label"),
    ],
)
def test_odd_ids_of_a_panoptic_png_are_said(tmp_path, from_id, to_id, kind, said):
    make_dataset(tmp_path, 3)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    annotation = content["annotations"][1]
    path = tmp_path / "panoptic" / annotation["file_name"]
    pixels = np.array(Image.open(path))
    if from_id is None:
        pixels[:2, :2] = (to_id, 0, 0)
    else:
        number = annotation["segments_info"][0]["id"]
        color = [number & 255, number >> 8 & 255, number >> 16]
        pixels[(pixels == color).all(2)] = 0
        annotation["segments_info"][0]["id"] = to_id
    Image.fromarray(pixels).save(path)
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    found = examine(Catalog(tmp_path), f"{tmp_path}/panoptic.json@{tmp_path}/images")
    assert found.counts == {kind: 1}
    assert re.search(said, found.problems[kind][0].message)
    assert kind in found.survey.losses()[1]
    assert not found.survey.refusal()


def test_all_faults_of_label_images(tmp_path):
    make_dataset(tmp_path, 5)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    images = tmp_path / "images"
    (images / "01.png").unlink()
    (images / "02.png").write_bytes(b"no image")
    Image.new("L", (2, 2)).save(images / "03.jpg")
    problems = []
    records = Catalog(tmp_path).read(f"{tmp_path}/labels@{images}", problems.append)
    assert [(p.kind, p.path.name) for p in problems] == [
        ("label without an image", "labels"),
        ("files of one name", "labels"),
        ("unreadable image", "02.png"),
    ]
    assert [r.id for r in records] == ["00", "04"]


def test_all_faults_of_a_label_list(tmp_path):
    make_dataset(tmp_path, 2)
    (tmp_path / "list.txt").write_text("00.png 00.png\n\nalone\n01.png 01.png\ngone.png 01.png\n")
    (tmp_path / "own.yaml").write_text(
        "reader: label_list\nclasses: [box, disc, ground]\n"
        "names: {own: {images: images, annotations: list.txt, semantic: labels}}\n"
    )
    problems = []
    records = Catalog(tmp_path, [tmp_path / "own.yaml"]).read("own", problems.append)
    assert [p.kind for p in problems] == ["line of a list", "unreadable image"]
    assert "line 3, 'alone'" in problems[0].message
    assert [r.id for r in records] == ["00", "01"]


def test_an_image_of_cityscapes_that_cannot_be_read(tmp_path):
    for city in ("a", "b"):
        images, truth = (tmp_path / f / "val" / city for f in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        truth.mkdir(parents=True)
        Image.new("L", (6, 4)).save(images / f"{city}_leftImg8bit.png")
        Image.new("I;16", (6, 4), 26000).save(truth / f"{city}_gtFine_instanceIds.png")
    (tmp_path / "gtFine/val/a/a_gtFine_instanceIds.png").write_bytes(b"")
    problems = []
    (tmp_path / "own.yaml").write_text(
        "reader: cityscapes_instances\nclasses: {names: [car], ids: [26]}\n"
        "names: {own: {images: leftImg8bit/val, annotations: gtFine/val}}\n"
    )
    records = Catalog(tmp_path, [tmp_path / "own.yaml"]).read("own", problems.append)
    assert [p.path.name for p in problems] == ["a_gtFine_instanceIds.png"]
    assert [(r.id, r.frames[0].segments[0].area) for r in records] == [("b", 24)]


# ---------------------------------------------------------------- examined to its end


def test_a_sound_data_set_has_no_problem(tmp_path):
    make_dataset(tmp_path)
    catalog, seen = Catalog(tmp_path, [tmp_path / "tiny.yaml"]), []

    def watch(records):
        for record in records:
            seen.append(record.id)
            yield record

    examination = examine(catalog, "tiny_panoptic", watch=watch)
    assert (examination.images, examination.empty, examination.counts.total()) == (8, 0, 0)
    assert examination.segments == examination.classes.total() == 24
    assert seen == list(range(8))
    assert examine(catalog, "tiny_semantic").classes == {0: 8, 1: 8, 2: 8}


def test_faults_of_files_and_pixels(tmp_path):
    make_dataset(tmp_path)
    (tmp_path / "images/00.png").unlink()
    Image.new("RGB", (3, 3)).save(tmp_path / "images/01.png")
    png = np.asarray(Image.open(tmp_path / "panoptic/02.png")).copy()
    png[png == 2] = 0
    Image.fromarray(png).save(tmp_path / "panoptic/02.png")
    Image.new("RGB", (64, 72)).save(tmp_path / "panoptic/04.png")
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"][0]["category_id"] = 91
    content["images"][5]["height"] += 1
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 5]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    text = (tmp_path / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(
        text.replace("panoptic: panoptic}", "panoptic: panoptic, instances: instances.json}")
    )
    examination = examine(Catalog(tmp_path, [tmp_path / "tiny.yaml"]), "tiny_panoptic")
    assert examination.counts == {
        "category": 1,
        "image of the instances file": 1,
        "file that cannot be read": 1,
        "size": 1,
        "segment ids": 2,
    }
    assert "00.png: image not found" in examination.problems["file that cannot be read"][0].message
    assert [p.image for p in examination.problems["segment ids"]] == [2, 4]
    assert examination.images == 8


def test_what_cannot_be_read_at_all_is_one_problem(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text("{")
    for name in ("coco_2017_val", "nothing", f"{tmp_path}/x.json@{tmp_path}"):
        examination = examine(Catalog(tmp_path), name)
        assert list(examination.counts.items()) == [("data set that cannot be read", 1)]
        assert (examination.metadata is None) == (name != "coco_2017_val")


def test_of_many_problems_the_first_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "KEPT", 2)
    examination = examine(Catalog(tmp_path), coco(tmp_path))
    assert examination.counts["annotation entry"] == 4
    assert [p.annotation for p in examination.problems["annotation entry"]] == [105, 106]
