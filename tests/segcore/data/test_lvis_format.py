"""LVIS's files, of both versions: where images lie, what the classes are, who is absent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from loading import load

from segcore.data.catalog import Catalog
from segcore.errors import DataError

URL = "http://images.cocodataset.org/"
TRIANGLE = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]


def category(number: int, name: str, frequency: str) -> dict:
    names = {"name": name.upper(), "synonyms": [name, "x"], "synset": f"{name}.n.01"}
    return {"id": number, "frequency": frequency} | names


def image(number: int, split: str, absent=(), partly=(), **more) -> dict:
    return {
        "id": number,
        "height": 12,
        "width": 16,
        "coco_url": f"{URL}{split}/{number:012}.jpg",
        "neg_category_ids": list(absent),
        "not_exhaustive_category_ids": list(partly),
    } | more


def annotation(number: int, image: int, category: int) -> dict:
    keys = {"id": number, "image_id": image, "category_id": category}
    return keys | {"segmentation": TRIANGLE, "area": 32.5, "bbox": [1, 1, 8, 8]}


CONTENT = {
    "annotations": [annotation(1, 7, 2), annotation(2, 3, 1), annotation(3, 7, 3)],
    "images": [image(7, "val2017", [1], [2, 3]), image(3, "train2017")],
    "categories": [category(3, "yoyo", "r"), category(1, "ant", "f"), category(2, "bee", "c")],
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "lvis").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / "coco" / split).mkdir(parents=True)
    (tmp_path / "coco/val2017/000000000007.jpg").touch()
    write(tmp_path / "lvis/lvis_v1_val.json", CONTENT)
    return tmp_path


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def test_classes_and_records(root):
    metadata, records = load("lvis_v1_val", root)
    assert metadata.classes == ("ant", "bee", "yoyo")  # by id, the first synonym
    assert metadata.dataset_ids == (1, 2, 3)
    assert metadata.frequencies == ("f", "c", "r")
    assert metadata.is_thing == (True, True, True)
    assert metadata.evaluators == ("lvis", "boundary")
    first, second = records
    assert first.frames[0].file == root / "coco/val2017/000000000007.jpg"
    assert second.frames[0].file == root / "coco/train2017/000000000003.jpg"
    assert [(s.category, s.area, s.crowd) for s in first.frames[0].segments] == [
        (1, 32.5, False),
        (2, 32.5, False),
    ]
    assert (first.negatives, first.not_exhaustive) == ((0,), (1, 2))
    assert (second.negatives, second.not_exhaustive) == ((), ())


def test_the_first_version_names_files_of_2014(root):
    old = CONTENT | {"images": [image(7, "val2017", file_name="COCO_val2014_000000000007.jpg")]}
    write(root / "lvis/lvis_v0.5_val.json", old | {"annotations": [annotation(1, 7, 2)]})
    _, records = load("lvis_v0.5_val", root)
    assert records[0].frames[0].file == root / "coco/val2017/000000000007.jpg"


def test_a_path_is_enough(root):
    metadata, records = load(str(root / "lvis/lvis_v1_val.json"))
    assert metadata.evaluators == ("lvis", "boundary")
    assert records[0].frames[0].file.resolve() == root / "coco/val2017/000000000007.jpg"
    plain = [{k: v for k, v in each.items() if "category" not in k} for each in CONTENT["images"]]
    write(root / "lvis/plain.json", CONTENT | {"images": plain})
    assert Catalog(root).entry(f"{root}/lvis/plain.json@{root}/coco").format.name != "lvis"


def test_images_of_ones_own_have_file_names(root):
    own = [replace_url(each, f"pictures/{each['id']}.png") for each in CONTENT["images"]]
    write(root / "own.json", CONTENT | {"images": own})
    (root / "pictures").mkdir()
    _, records = load(f"{root}/own.json@{root}")
    assert records[0].frames[0].file == root / "pictures/7.png"
    nameless = [replace_url(each, None) for each in CONTENT["images"]]
    write(root / "own.json", CONTENT | {"images": nameless})
    with pytest.raises(DataError, match=r"own\.json: image 7 has neither coco_url nor file_name"):
        load(f"{root}/own.json@{root}")


def replace_url(entry: dict, name: str | None) -> dict:
    more = {k: v for k, v in entry.items() if k != "coco_url"}
    return more | ({"file_name": name} if name else {})


def test_lists_of_test_images_have_no_truth(root):
    images = [{k: v for k, v in each.items() if "category" not in k} for each in CONTENT["images"]]
    content = {"images": images, "categories": CONTENT["categories"]}
    write(root / "lvis/lvis_v1_image_info_test_dev.json", content)
    metadata, records = load("lvis_v1_test_dev", root)
    assert metadata.evaluators == ()
    assert [record.id for record in records] == [7, 3]


def test_wrong_lists_raise(root):
    wrong = CONTENT | {"images": [image(7, "val2017", ["ant"]), image(3, "train2017")]}
    write(root / "lvis/lvis_v1_val.json", wrong)
    with pytest.raises(DataError, match=r"image 7.*neg_category_ids"):
        load("lvis_v1_val", root)
    odd = [each | {"frequency": "often"} for each in CONTENT["categories"]]
    write(root / "lvis/lvis_v1_val.json", CONTENT | {"categories": odd})
    with pytest.raises(DataError, match=r"frequencies.*c \(common\)"):
        load("lvis_v1_val", root)


def test_a_missing_folder_of_images_is_named(root):
    (root / "coco/train2017").rmdir()
    with pytest.raises(DataError, match=r"coco/train2017: image folder not found"):
        load("lvis_v1_val", root)


def test_models_of_coco_are_evaluated_with_its_classes(root):
    """AP*: some of COCO's categories alone occur."""
    content = CONTENT | {"categories": [category(2, "bicycle", "f")]}
    content |= {"images": [image(7, "val2017", [90], [2])], "annotations": [annotation(1, 7, 2)]}
    write(root / "lvis/lvis_v0.5_val_cocofied.json", content)
    metadata, (record,) = load("lvis_v0.5_val_cocofied", root)
    coco = Catalog(root).metadata("coco_2017_val")
    same = replace(coco, name=metadata.name, evaluators=("lvis", "boundary"))
    assert metadata == same
    assert (record.negatives, record.not_exhaustive) == ((79,), (1,))
    assert record.frames[0].segments[0].category == 1
