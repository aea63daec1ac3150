"""Other tools' own formats, folders in place of a file, and texts in other encodings."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from converted import contents, converted
from drawn_shapes import make_shapes
from loading import load
from PIL import Image
from tiny import make_dataset

from segcore.data.catalog import Catalog
from segcore.data.formats.foreign import foreign
from segcore.data.parsing.class_list import class_list
from segcore.data.parsing.json_stream import read_object
from segcore.data.parsing.values import text as whole_text
from segcore.data.parsing.values import typed
from segcore.data.parsing.yaml_file import read_yaml
from segcore.errors import DataError
from segcore.labels import semantic_map

SHAPE = {"label": "x", "points": [[4, 4], [24, 4], [24, 24]], "shape_type": "polygon"}
VIA = {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": []}}
ENDINGS = (".txt", ".yaml", ".json", ".xml")
FILES = {  # name, content: what the error says
    ("a.json", json.dumps({"_via_settings": {}, "_via_img_metadata": VIA})): "VIA; .*COCO format",
    ("a.json", json.dumps(VIA)): "a project of VIA",
    ("a.json", json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5}])): "predictions",
    ("a.json", json.dumps({"objects": [], "imgHeight": 3})): "Cityscapes.*cityscapes_instances",
    ("a.json", '{"data_row": {}}\n{"data_row": {}}\n'): "a JSON object on each line",
    ("a.json", json.dumps([{"image": "a.jpg", "annotator": 1, "annotation_id": 2}])): "as JSON",
    ("a.zip", "PK"): "packed; unpack it",
    ("a.geojson", json.dumps({"type": "FeatureCollection", "features": []})): "GeoJSON",
    ("a.xml", "<annotation><object/></annotation>"): "Pascal VOC.*no masks",
    ("a.txt", "0 0.1 0.1 0.3 0.1 0.3 0.4\n"): r"YOLO.*give the data\.yaml",
    ("mine.yaml", "reader: coco_instances\nnames: {}\n"): "a catalogue file.*DATASETS.CATALOGS",
}


@pytest.mark.parametrize(("file", "message"), FILES.items(), ids=lambda value: str(value)[:50])
def test_files_of_other_tools_are_named_with_what_to_do(tmp_path, file, message):
    name, content = file
    (tmp_path / name).write_text(content)
    Image.new("L", (3, 2)).save(tmp_path / "a.jpg")
    for path in (tmp_path / name, tmp_path):
        if path == tmp_path and name in ("a.geojson", "a.zip"):
            continue
        with pytest.raises(DataError, match=f"{re.escape(str(path))}: is .*{message}"):
            Catalog(tmp_path).metadata(str(path))


def test_a_folder_in_place_of_its_json_raises(tmp_path):
    make_dataset(tmp_path / "data", 2)
    file = tmp_path / "data" / "instances.json"
    for folder in (tmp_path / "data", tmp_path):
        with pytest.raises(DataError, match=f"is a folder; give .* in it: {file}"):
            Catalog(tmp_path).entry(str(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps([{"id": 1, "annotations": [], "data": {}}])),
        ("a.xml", '<?xml version="1.0"?>\n<annotations><image/></annotations>'),
        ("sub/data.yaml", "path: .\ntrain: images\nnames: {0: a}\n"),
    ],
)
def test_a_folder_in_place_of_the_file_of_a_tool_raises(tmp_path, name, content):
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"is a folder; give .* in it: {tmp_path / name}"):
        Catalog(tmp_path).entry(str(tmp_path))


def test_the_folder_of_pascal_voc_names_its_two(tmp_path):
    for name in ("SegmentationClass", "JPEGImages"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"SegmentationClass@.*JPEGImages, with a classes\.json"):
        Catalog(tmp_path).entry(str(tmp_path))
    Image.new("L", (3, 2)).save(tmp_path / "SegmentationClass/a.png")
    Image.new("L", (3, 2)).save(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "classes.json").write_text('["a"]')
    _, records = load(f"{tmp_path}/SegmentationClass")
    assert records[0].frames[0].file == tmp_path / "JPEGImages/a.jpg"


def test_label_images_with_classes_are_label_images_whatever_lies_beside(tmp_path):
    make_dataset(tmp_path, 2)
    (tmp_path / "classes.json").write_text('["box", "disc", "ground"]')
    (tmp_path / "labels/00.json").write_text(json.dumps({"shapes": [SHAPE], "imagePath": "00.png"}))
    (tmp_path / "labels/readme.txt").write_text("0 0.1 0.1 0.2 0.2")
    assert len(load(f"{tmp_path}/labels")[1]) == 2
    assert foreign(tmp_path / "images") is None


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_unicode(tmp_path, encoding):
    make_dataset(tmp_path, 2)
    path = tmp_path / "instances.json"
    expected = load(f"{path}@{tmp_path}/images")[0].classes
    content = path.read_text().replace('"disc"', '"\u6a39"').replace(", ", ",\r\n\t")
    path.write_bytes(content.encode(encoding))
    metadata, records = load(f"{path}@{tmp_path}/images")
    assert metadata.classes == tuple("\u6a39" if c == "disc" else c for c in expected)
    assert len(records) == 2
    (tmp_path / "classes.json").write_bytes('["\u6a39", "b", "c"]'.encode(encoding))
    assert load(f"{tmp_path}/labels")[0].classes == ("\u6a39", "b", "c")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["yolo", "labelme", "cvat", "label_studio"])
def test_exports_are_read_as_windows_saves_texts(tmp_path, name, encoding):
    path, _ = converted(make_shapes(tmp_path / "drawn"), tmp_path / name, name)
    expected = contents(path)
    for file in [f for f in (tmp_path / name).rglob("*") if f.suffix in ENDINGS]:
        text = re.sub(
            "encoding=.utf-8.", f'encoding="{encoding.removesuffix("-sig")}"', file.read_text()
        )
        file.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert contents(path) == expected


def test_other_encodings_raise(tmp_path):
    (tmp_path / "x.json").write_bytes('{"a": "B\u00e4ume"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.json: .*save it as UTF-8, such as by `iconv"):
        read_object(tmp_path / "x.json", {})
    with pytest.raises(DataError, match=r"x\.json: class list .*save it as UTF-8"):
        read_yaml(tmp_path / "x.json", "class list")


def test_class_files_are_read_as_json_where_they_are_json(tmp_path):
    path = tmp_path / "classes.json"
    names = ["tree \U0001f333", "b"]
    path.write_text(json.dumps({"names": names}, indent="\t"))  # with a surrogate pair
    assert class_list(read_yaml(path, "class list"), "x").names == tuple(names)
    path.write_text("{names: [a, b]}")
    assert read_yaml(path, "class list") == {"names": ["a", "b"]}
    path.write_text('{"names": ["a" "b"]}')
    with pytest.raises(DataError, match=r"classes\.json: class list is not valid JSON: Exp"):
        read_yaml(path, "class list")
    (tmp_path / "classes.yaml").write_text("names:\n\t- a\n")
    with pytest.raises(DataError, match=r"\.yaml: .*not valid YAML.*spaces, not with tabs"):
        read_yaml(tmp_path / "classes.yaml", "class list")


def test_halves_of_letters_are_joined_or_raise(tmp_path):
    assert class_list(["\ud83c\udf33"], "x").names == ("\U0001f333",)
    with pytest.raises(DataError, match=r"x: class name .* has half a letter"):
        class_list(["tree \ud83c"], "x")
    with pytest.raises(DataError, match="expected whole letters"):
        typed({"file_name": "\ud83c.png"}, "file_name", whole_text, "image 1", "x")


def test_label_maps_of_cvat_have_classes_and_colours(tmp_path):
    make_dataset(tmp_path, 2)
    path = tmp_path / "labelmap.txt"
    path.write_text("# label:color_rgb:parts:actions\na:0,0,0::\nb b:255,0,0::\nc:0,0,255::\n")
    metadata, records = load(f"{tmp_path}/labels")
    assert metadata.classes == ("a", "b b", "c")
    assert metadata.colors == ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    label = records[0].frames[0].semantic
    numbers = np.asarray(Image.open(label)) % 3  # without what is ignored
    Image.fromarray(np.array(metadata.colors, np.uint8)[numbers]).save(label)
    assert np.array_equal(semantic_map(records[0].frames[0], metadata), numbers)
    path.write_text("a:0,0\n")
    with pytest.raises(DataError, match=r"labelmap\.txt: .*is no colour"):
        load(f"{tmp_path}/labels")
    path.write_text("a\n")
    with pytest.raises(DataError, match=r"labelmap\.txt: line 1, 'a', is not `label:red"):
        load(f"{tmp_path}/labels")
