"""Files of annotation tools as the tools write them, not as we do."""

import json
from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image

from segcore import masks
from segcore.data.catalog import Catalog
from segcore.data.formats.table import recognised
from segcore.data.parsing import brush_rle
from segcore.errors import DataError
from segcore.labels import semantic_map
from segcore.segment_rle import to_rle

H, W = 20, 30
SQUARE = [[2, 3], [12, 3], [12, 9], [2, 9]]
OTHER = [[20, 10], [25, 10], [25, 15], [20, 15]]


def image(path: Path, size=(H, W), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size[::-1], value).save(path)
    return path


def box(y0, x0, y1, x1):
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def drawn(record):
    """The masks of a record."""
    frame = record.frames[0]
    return [masks.decode(to_rle(segment, frame, record.size)) for segment in frame.segments]


def survey(name, caplog):
    """Records, and what the log says of losses."""
    metadata, records = load(name)
    return metadata, records, caplog.text


# ---------------------------------------------------------------- labelme


def labelme(folder, shapes, **more):
    image(folder / "photo 1.jpg")
    content = {"version": "4.5.6", "flags": {}, "imagePath": "photo 1.jpg", "imageData": None}
    content |= {"imageHeight": H, "imageWidth": W, "shapes": shapes}
    (folder / "photo 1.json").write_text(json.dumps(content | more))
    return folder


def shape(points, label="cat", kind="polygon", group=None):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def test_labelme_groups_are_objects_and_boxes_are_counted(tmp_path, caplog):
    labelme(
        tmp_path,
        [
            shape(SQUARE, group=1),
            shape(SQUARE, label="dog", group=1),
            shape(OTHER, group=1),
            shape([[1, 1], [9, 9]], kind="rectangle"),
            shape([[1, 1]], kind="point", label="dog"),
            shape([[15, 10], [15, 15]], kind="circle"),
            shape(SQUARE, label="__ignore__"),
            shape(SQUARE[:2]),
        ],
    )
    metadata, records, log = survey(str(tmp_path), caplog)
    assert metadata.classes == ("cat", "dog")
    assert records[0].id == "photo 1"
    cat, dog, circle = drawn(records[0])
    np.testing.assert_array_equal(cat, box(3, 2, 9, 12) | box(10, 20, 15, 25))
    np.testing.assert_array_equal(dog, box(3, 2, 9, 12))
    assert abs(circle.sum() - np.pi * 25) < 6
    for said in ("box without a mask: 1 (cat 1)", "point, line or skeleton: 2 (dog 1)"):
        assert said in log
    assert "ring of an odd length or of under three points: 1 (cat 1)" in log


def test_labelme_names_and_sizes_that_are_not_there(tmp_path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    path = r"..\images\photo 1.jpg"
    labelme(tmp_path / "json", [shape(SQUARE)], imagePath=path, imageHeight=None)
    (tmp_path / "json/photo 1.jpg").rename(image(tmp_path / "images/photo 1.jpg"))
    metadata, records = load(str(tmp_path / "json"))
    assert metadata.classes == ("dog", "cat")
    assert records[0].size == (H, W)
    assert records[0].frames[0].file == tmp_path / "images/photo 1.jpg"
    _, records = load(str(tmp_path / "json/photo 1.json"))  # one file alone
    assert [segment.category for segment in records[0].frames[0].segments] == [1]


# ---------------------------------------------------------------- CVAT

CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><project><labels>
<label><name>dog</name><color>#ff6037</color><type>any</type><attributes/></label>
<label><name>cat &amp; co</name><color>#00ff00</color></label>
<label><name>leg</name><parent>dog</parent></label>
</labels></project></meta>
<image id="0" name="a.jpg" subset="default" width="{W}" height="{H}">
  <polygon label="dog" occluded="0" points="2.00,3.00;12.00,3.00;12.00,9.00;2.00,9.00" z_order="0"
    group_id="4"/>
  <mask label="dog" rle="1, 2, 3" left="20" top="10" width="3" height="2" group_id="4"></mask>
  <ellipse label="cat &amp; co" cx="15" cy="10" rx="8" ry="3" rotation="90.0"/>
  <box label="dog" xtl="1" ytl="1" xbr="9" ybr="9"><attribute name="x">1</attribute></box>
  <skeleton label="dog"><points label="leg" points="1,2"/><points label="leg" points="2,3"/>
  </skeleton>
  <polyline label="dog" points="1,2;3,4"/>
</image><image id="1" name="b.jpg" width="{W}" height="{H}"/></annotations>
"""


def test_cvat_as_it_is_exported(tmp_path, caplog):
    for name in "ab":
        image(tmp_path / f"images/{name}.jpg")
    (tmp_path / "annotations.xml").write_text(CVAT)
    metadata, records, log = survey(f"{tmp_path}/annotations.xml", caplog)
    assert metadata.classes == ("dog", "cat & co")
    assert metadata.colors[0] == (255, 0x60, 0x37)
    assert [len(record.frames[0].segments) for record in records] == [2, 0]
    dog, cat = drawn(records[0])
    np.testing.assert_array_equal(dog, box(3, 2, 9, 12) | box(10, 21, 11, 23))
    rows, columns = np.nonzero(cat)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 17, 12, 17)
    assert "box without a mask: 1 (dog 1)" in log
    assert "point, line or skeleton: 2 (dog 2)" in log


# ---------------------------------------------------------------- Label Studio


def region(kind, value, **more):
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    return {"id": "x", "type": kind, "from_name": "tag", "to_name": "image", "value": value} | (
        size | more
    )


def test_label_studio_as_it_is_exported(tmp_path, caplog):
    image(tmp_path / "upload/1f2e3d4c-a.jpg")
    points = [[100 * x / W, 100 * y / H] for x, y in SQUARE]
    result = [
        region("polygonlabels", {"points": points, "closed": True, "polygonlabels": ["dog"]}),
        region("polygon", {"points": points}, id="y"),
        region("labels", {"points": points, "labels": ["cat"]}, id="y"),
        region(
            "rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["dog"]}
        ),
        region("choices", {"choices": ["good"]}, id="z"),
        {"type": "relation", "from_id": "x", "to_id": "y"},
    ]
    done = [{"was_cancelled": True, "result": []}, {"result": result}, {"result": []}]
    tasks = [{"id": 9, "data": {"image": "/data/upload/1/1f2e3d4c-a.jpg"}, "annotations": done}]
    tasks += [{"id": 10, "data": {"image": "/data/upload/1/1f2e3d4c-a.jpg"}, "annotations": []}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    metadata, records, log = survey(f"{tmp_path}/export.json", caplog)
    assert metadata.classes == ("cat", "dog")
    assert [record.id for record in records] == ["9"]
    assert [segment.category for segment in records[0].frames[0].segments] == [1, 0]
    for mask in drawn(records[0]):
        np.testing.assert_array_equal(mask, box(3, 2, 9, 12))
    assert "box without a mask: 1 (dog 1)" in log
    assert "second annotation of an image: 1" in log


def test_brush_strokes_come_back():
    rng = np.random.default_rng(0)
    for density in (0, 0.01, 0.5, 1):
        mask = rng.random((37, 51)) < density
        np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(mask), (37, 51)), mask)
    wide = np.zeros((300, 300), bool)  # longer than one block
    wide[200:, 7:] = True
    np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(wide), (300, 300)), wide)


def test_brush_strokes_with_literal_words_are_read():
    """A block that repeats nothing: 32 bits 8, 5 bits 7, sizes 3 4 8 16, 0, 00, 111, 8 words."""
    words = [0, 0, 0, 255, 9, 9, 9, 0]
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}000111" + "".join(
        f"{w:08b}" for w in words
    )
    bits += "0" * (-len(bits) % 8)
    values = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush_rle.decode(values, (1, 2)).tolist() == [[True, False]]


# ---------------------------------------------------------------- masks and colours


def test_masks_of_the_data_science_bowl(tmp_path):
    for name in ("0a1b", "ff00"):
        image(tmp_path / f"stage1/{name}/images/{name}.png")
        for i in range(2):
            Image.fromarray(box(i, 0, i + 2, 5)).save(
                _folder(tmp_path / f"stage1/{name}/masks") / f"{i}{name}.png"
            )
    metadata, records = load(str(tmp_path / "stage1"))
    assert (metadata.classes, [r.id for r in records]) == (("object",), ["0a1b", "ff00"])
    np.testing.assert_array_equal(drawn(records[1])[1], box(1, 0, 3, 5))


def _folder(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("places", [("cat/1.png", "dog/2.png"), ("cat_1.png", "dog.png")])
def test_masks_say_their_class_by_folder_or_name(tmp_path, places):
    image(tmp_path / "images/a.jpg")
    for place in places:
        image(tmp_path / "masks/a" / place, value=255)
    if "/" not in places[0]:
        (tmp_path / "classes.json").write_text('["cat", "dog"]')
    metadata, records = load(str(tmp_path / "masks"))
    assert metadata.classes == ("cat", "dog")
    assert [segment.category for segment in records[0].frames[0].segments] == [0, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", "64 128 64\tAnimal\n192 0 128\t\tArchway\n0 0 0\tVoid\n"),
        ("class_dict.csv", "name,r,g,b\nAnimal,64,128,64\nArchway,192,0,128\nVoid,0,0,0\n"),
    ],
)
def test_colours_with_their_palettes(tmp_path, name, text):
    image(tmp_path / "images/a.jpg")
    file = image(tmp_path / "labels/a.png", value=(64, 128, 64))
    pixels = np.array(Image.open(file))
    pixels[2:], pixels[5:] = (192, 0, 128), (0, 0, 0)
    Image.fromarray(pixels).save(file)
    (tmp_path / name).write_text(text)
    metadata, records = load(str(tmp_path / "labels"))
    assert (recognised(tmp_path / "labels").name, metadata.classes) == (
        "color_png",
        ("Animal", "Archway", "Void"),
    )
    assert semantic_map(records[0].frames[0], metadata)[[0, 2, 5], 0].tolist() == [0, 1, 2]
    (tmp_path / name).write_text(text.replace("192", "64").replace("64,0,128", "64,128,64"))
    (tmp_path / name).write_text((tmp_path / name).read_text().replace("64 0 128", "64 128 64"))
    with pytest.raises(DataError, match=rf"{name}: two classes have the colour \(64, 128, 64\)"):
        Catalog(tmp_path).metadata(str(tmp_path / "labels"))


# ---------------------------------------------------------------- places of images


@pytest.mark.parametrize(
    ("place", "path"),
    [("JPEGImages", None), ("data", None), ("cats/raw", "/datasets/cats/raw/a.jpg")],
)
def test_images_lie_where_tools_put_them(tmp_path, place, path):
    file = image(tmp_path / place / "a.jpg")
    entry = {"id": 1, "file_name": "a.jpg", "height": H, "width": W, "path": path}
    content = {"images": [entry], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    _, records = load(f"coco_instances={tmp_path}/x.json")
    assert records[0].frames[0].file == file


def test_images_of_one_stem_are_two_records(tmp_path):
    for name in ("a.jpg", "a.png", "b.c.png"):
        image(tmp_path / "images" / name)
    one = f'<image name="{{}}" width="{W}" height="{H}"/>'
    names = "".join(one.format(name) for name in ("a.jpg", "a.png", "b.c.png"))
    (tmp_path / "a.xml").write_text(
        f"<annotations><label><name>x</name></label>{names}</annotations>"
    )
    assert [record.id for record in load(f"{tmp_path}/a.xml")[1]] == ["a", "a.png", "b.c"]
    (tmp_path / "data.yaml").write_text("names: [x]\ntrain: images\n")
    for stem in ("a", "b.c"):
        file = _folder(tmp_path / "labels") / f"{stem}.txt"
        file.write_text("0 0 0 1 0 1 1\n")
    _, records = load(f"{tmp_path}/data.yaml")
    images = [f"{tmp_path}/images/a.jpg", f"{tmp_path}/images/a.png"]
    assert [record.id for record in records] == [*images, "b.c"]
    assert [len(drawn(record)) for record in records] == [1, 1, 1]
