"""COCO's two formats, and what may be wrong with their files."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore import masks
from segcore.data.formats.coco_file import CocoFile
from segcore.data.images import read_image
from segcore.data.problem import raise_it
from segcore.errors import DataError
from segcore.structures import Frame, Polygons, Record


def coco(folder, **changes):
    content = {
        "annotations": [  # before the images, which is legal
            {"id": 1, "image_id": 5, "category_id": 9, "segmentation": [[1, 1, 4, 1, 4, 3]]},
            {"id": 2, "image_id": 4, "category_id": 2, "iscrowd": 1, "area": 7.0,
             "segmentation": {"size": [4, 6], "counts": [5, 7, 12]}},
            {"id": 3, "image_id": 5, "category_id": 2, "iscrowd": 0,
             "segmentation": {"size": [4, 6], "counts": "52a0"}},
            {"id": 4, "image_id": 4, "category_id": 2, "segmentation": [[1, 1, 2, 2]]},
        ],
        "images": [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in (5, 6, 4)],
        "categories": [{"id": 9, "name": "nine"}, {"id": 2, "name": "two"}],
    }  # fmt: skip
    path = folder / "x.json"
    path.write_text(json.dumps(content | changes))
    return f"{path}@{folder}"


def test_coco_instances(tmp_path, caplog):
    metadata, records = load(coco(tmp_path))
    assert metadata.classes == ("two", "nine")
    assert [r.id for r in records] == [5, 6, 4]
    first, none, last = (r.frames[0].segments for r in records)
    assert [s.category for s in first] == [1, 0]
    assert first[0].shape == Polygons(((1, 1, 4, 1, 4, 3),))
    assert first[1].shape == {"size": [4, 6], "counts": b"52a0"}
    assert none == ()  # stays: it is an image without objects
    assert last[0].crowd and last[0].area == 7.0
    whole = np.zeros(24, bool)
    whole[5:12] = True
    assert np.array_equal(masks.decode(last[0].shape), whole.reshape(6, 4).T)
    assert len(last) == 1
    assert "ring of an odd length or of under three points: 1 (two 1)" in caplog.text
    assert records.usable.tolist() == [True, False, False]


def test_a_file_is_forgotten_when_its_records_are_made(tmp_path):
    path = Path(coco(tmp_path).partition("@")[0])
    gc.disable()
    try:
        content = CocoFile(path, lambda entry: (entry["id"],), what="annotation", problem=raise_it)
        alive = ref(content)
        assert content.annotations(5) == [(1,), (3,)]
        del content
        assert alive() is None
    finally:
        gc.enable()


def test_no_annotation_at_all_is_legal(tmp_path):
    _, records = load(coco(tmp_path, annotations=[]))
    assert len(records) == 3 and not records.usable.any()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"segmentation": {"size": [4, 6], "counts": [5, 7]}}, "add up to 12; expected .* 24"),
        ({"segmentation": {"size": [6, 4], "counts": "52a0"}}, r"size \[6, 4\], its image is"),
        ({"segmentation": {"counts": "52a0"}}, "neither polygons nor RLE"),
        ({"segmentation": "52a0"}, "neither polygons nor RLE"),
        ({"category_id": [9]}, r"annotation 7 has category_id \[9\]; expected a whole number"),
        ({"category_id": None}, "annotation 7 has category_id None"),
        ({"image_id": None}, "annotation 7 has image_id None"),
        ({"iscrowd": "0"}, "annotation 7 has iscrowd '0'; expected 0 or 1"),
        ({"area": "12"}, "annotation 7 has area '12'; expected a number"),
        ({"segmentation": [1, 1, 4, 1, 4, 3]}, "neither polygons nor RLE"),
        ({"category_id": 3}, "annotation 7 of image 5 has category 3; .* 2 ids from 2 to 9"),
        ({"image_id": 77}, "annotation 7 belongs to image 77, which is not listed"),
    ],
)
def test_broken_annotations_raise(tmp_path, entry, message):
    good = {"id": 7, "image_id": 5, "category_id": 9, "segmentation": [[1, 1, 4, 1, 4, 3]]}
    name = coco(tmp_path, annotations=[good, good | entry])
    with pytest.raises(DataError, match=message):
        load(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "'images' is not a list"),
        ({"annotations": [3]}, "an annotation is 3; expected an object"),
        (
            {"images": [{"id": 1, "file_name": "x", "height": 0, "width": 6}]},
            "height 0; expected pix",
        ),
        ({"images": [{"id": 1, "height": 4, "width": 6}]}, "image 1 has no 'file_name'"),
        (
            {"images": [{"id": 1, "file_name": None, "height": 4, "width": 6}]},
            "file_name None; exp",
        ),
        (
            {"images": [{"id": [1], "file_name": "x", "height": 4, "width": 6}]},
            r"id \[1\]; expected",
        ),
        (
            {"images": [{"id": 1, "file_name": "x", "height": "4", "width": 6}]},
            "height '4'; expect",
        ),
        ({"categories": [{"id": None, "name": "x"}]}, "category 'x' has id None; expected"),
        ({"categories": [{"id": "1", "name": "x"}]}, "category 'x' has id '1'; expected"),
        ({"categories": [{"id": 1}]}, "a category needs `id` and `name`"),
        ({"categories": [{"id": 2, "name": "a"}, {"id": 2, "name": "b"}]}, "not unique"),
    ],
)
def test_broken_files_raise(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(coco(tmp_path, **changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "has no 'images'"),
        (lambda c: c["images"].append(c["images"][0]), "listed twice"),
        (lambda c: c["annotations"][0].update(category_id=91), "has category 91"),
        (lambda c: c["annotations"][0].update(image_id=77), "not listed"),
        (lambda c: c["annotations"][0].pop("category_id"), "has no 'category_id'"),
        (lambda c: c["annotations"][0]["segmentation"].update(size=[5, 5]), "mask of size"),
        (lambda c: c["images"][0].pop("height"), "has no 'height'"),
        (lambda c: c.pop("categories"), "has no categories"),
    ],
)
def test_annotations_that_do_not_fit_raise(tiny, tmp_path, change, message):
    content = json.loads((tiny / "instances.json").read_text())
    change(content)
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(f"{tmp_path}/x.json@{tiny}/images")


@pytest.mark.parametrize("kind", [{}, {"isthing": 1}])
def test_a_list_of_images_has_no_ground_truth(tmp_path, caplog, kind):
    image = {"id": 1, "file_name": "1.png", "height": 4, "width": 6}
    content = {"images": [image], "categories": [{"id": 1, "name": "x"} | kind]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    Image.new("L", (6, 4)).save(tmp_path / "1.png")
    metadata, records = load(str(tmp_path / "x.json"))
    assert metadata.evaluators == ()
    assert list(records) == [Record(1, (4, 6), (Frame(tmp_path / "1.png"),))]
    assert "x.json: has no 'annotations'" in caplog.text


def test_missing_folders_raise(tiny, tmp_path):
    (tmp_path / "x.json").write_text((tiny / "panoptic.json").read_text())
    with pytest.raises(DataError, match=r"x: folder of panoptic PNGs not found"):
        load(f"{tmp_path}/x.json@{tiny}/images")
    with pytest.raises(DataError, match=r"gone: image folder not found \(nor gone.zip\)"):
        load(f"{tiny}/instances.json@{tmp_path}/gone")


def test_truncated_and_missing_files_raise(tiny, tmp_path):
    (tmp_path / "x.json").write_text((tiny / "instances.json").read_text()[:500])
    with pytest.raises(DataError, match="not valid JSON"):
        load(str(tmp_path / "x.json"))
    with pytest.raises(DataError, match="nearest names: coco_2017_train"):
        load("coco_2017_tran")
    with pytest.raises(DataError, match="DETECTRON2_DATASETS"):
        load("coco_2017_val")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path / "broken.jpg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"].append(c["annotations"][0]), "image 0 has 2 annotations"),
        (lambda c: c["annotations"][1].pop("segments_info"), "image 1 has no 'segments_info'"),
        (
            lambda c: c["annotations"][0]["segments_info"][0].pop("id"),
            "a segment of image 0 has no",
        ),
        (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=4), "category 4"),
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(id=None),
            "has id None; expected",
        ),
        (
            lambda c: c["annotations"][1].update(segments_info=None),
            "image 1 has segments_info None",
        ),
        (lambda c: c["annotations"][1].update(file_name=None), "image 1 has file_name None"),
        (lambda c: c["annotations"][0].update(image_id="0"), "not listed"),
        (lambda c: c["images"].append(c["images"][0]), "listed twice"),
    ],
)
def test_broken_panoptic_files_raise(tiny, tmp_path, change, message):
    content = json.loads((tiny / "panoptic.json").read_text())
    change(content)
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load(f"{tmp_path}/panoptic.json@{tiny}/images")


def test_panoptic_is_joined_on_image_ids(tiny, tmp_path, caplog):
    content = json.loads((tiny / "panoptic.json").read_text())
    content["images"].reverse()
    content["annotations"].pop(3)
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    _, records = load(f"{tmp_path}/panoptic.json@{tiny}/images")
    assert [r.id for r in records] == [7, 6, 5, 4, 2, 1, 0]
    assert all(r.frames[0].panoptic.stem == r.frames[0].file.stem for r in records)
    assert "8 images, 1 of them without an annotation" in caplog.text


def test_dots_in_the_names_of_panoptic_images(tiny, tmp_path):
    """`a.1.jpg` means `a.1.png`; only where that is missing, all behind the first dot goes."""
    content = json.loads((tiny / "panoptic.json").read_text())
    names = {"a.1.jpg": "a.1.png", "b.2.JPEG": "b.png", "c.3.PNG": "c.3.PNG", "d.jpg": "d.png"}
    for annotation, name in zip(content["annotations"], names, strict=False):
        annotation["file_name"] = name
    (tmp_path / "panoptic").mkdir()
    for name in ("a.1.png", "a.png", "b.png"):
        (tmp_path / "panoptic" / name).touch()
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    _, records = load(f"{tmp_path}/panoptic.json@{tiny}/images")
    pngs = [r.frames[0].panoptic.name for r in records[: len(names)]]
    assert pngs == list(names.values())
