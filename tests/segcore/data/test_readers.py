"""Every annotation format, what may be wrong with a file, and data sets at rest."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image
from pycocotools import mask as coco_mask
from tiny import make_dataset

from segcore import masks
from segcore.data.folders import image_folder
from segcore.data.formats.table import FORMATS
from segcore.data.images import image_size, read_image
from segcore.data.parsing import json_stream
from segcore.data.parsing.json_stream import last_member, read_object
from segcore.data.store import Records
from segcore.errors import DataError
from segcore.labels import read_ids, semantic_map
from segcore.structures import Frame, PngId, Polygons, Record, Segment


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_dataset(folder)
    return folder


# ---------------------------------------------------------------- at rest

SHAPES = [
    Polygons(((0.1, 2.25, 1 / 3, 4.0, -1.5, 6e9), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))),
    Polygons(((510.66, 423.01, 511.72, 420.03, -0.0, 641.13),)),
    {"size": [4, 6], "counts": b"012"},
    PngId(16_777_215),
]


def a_record(i):
    segments = tuple(
        Segment(k, shape, crowd=bool(k % 2), area=None if k else 12.5, track=k or None)
        for k, shape in enumerate(SHAPES)
    )
    frames = (
        Frame(Path("a b/é.jpg"), segments),
        Frame(Path("c.jpg"), segments[2:], Path("p.png"), Path("s.png")),
    )
    return Record(f"name{i}" if i else 0, (4 + i, 6), frames)


def test_records_come_back_as_they_went_in():
    given = [a_record(i) for i in range(5)] + [Record(9, (1, 1), (Frame(Path("x")),))]
    records = Records(given)
    assert list(records) == given
    assert list(pickle.loads(pickle.dumps(records))) == given  # as for a spawned worker
    assert records[-1] == given[-1]
    assert records[1:5:2] == given[1:5:2]
    assert records.sizes[2].tolist() == [6, 6]
    assert records.usable.tolist() == [True] * 5 + [False]
    with pytest.raises(IndexError):
        records[6]


def test_records_are_chosen_and_joined_without_unpacking():
    given = [a_record(i) for i in range(4)]
    records = Records(given)
    joined = Records.join([records.take(np.array([3, 1])), Records(), Records(given[:1])])
    assert list(joined) == [given[3], given[1], given[0]]
    assert joined.sizes.tolist() == [[7, 6], [5, 6], [4, 6]]
    assert list(joined.take(joined.sizes[:, 0] > 4)) == [given[3], given[1]]
    assert len(Records()) == len(list(Records())) == 0


def test_records_are_not_python_objects():
    ring = tuple(float(v) / 100 for v in range(1000))
    record = Record(1, (9, 9), (Frame(Path("x.jpg"), (Segment(0, Polygons((ring,))),)),))
    assert Records([record] * 10).nbytes < 10 * 4300  # four bytes a coordinate


# ---------------------------------------------------------------- JSON in pieces

TEXT = (
    ' {"a" : [ {"x": [1, "]}\\u00e9\\\\"]} ,12.5e3, [], null],"b":{"c":"é"},"e":[], "n": -17 } \n'
)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
def test_pieces_make_the_whole(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_text(TEXT, encoding="utf-8")
    whole, pieces = json.loads(TEXT), []
    assert read_object(path, {}) == whole
    found = read_object(path, {"a": pieces.append, "e": pieces.append, "n": pieces.append})
    assert pieces == whole["a"]
    assert found == whole | {"a": 4, "e": 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": [1, {"a": 2}]}', None),  # the last one lies deeper
        ('{"b": {"a": 2}, "a" : ["é"], "c": "]"}\n', ["é"]),
        ('{"b": "a"}', None),
        ('{"b": "x\\"a\\": 3"}', None),
        ('{"c": {"a": 3}}', None),
        ('{"a": [1', None),
        ('{"b": 1}', None),
    ],
)
def test_the_last_member_is_certain_or_not_given(tmp_path, text, expected):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert last_member(path, "a") == expected


def test_truncated_anywhere_is_told(tmp_path):
    path = tmp_path / "x.json"
    end = TEXT.rindex("}")
    for length in range(1, end + 1):
        path.write_text(TEXT[:length], encoding="utf-8")
        with pytest.raises(DataError, match=r"x\.json: not valid JSON.*download complete"):
            read_object(path, {"a": lambda _: None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected an object"),
        ("", "not valid JSON"),
        ("<html>", "not valid JSON at character 0"),
        ('{"a": [1 2]}', "at character 9"),
        ('{"a": 1} {', "more follows"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_no_object(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        read_object(path, {"a": lambda _: None})


# ---------------------------------------------------------------- COCO


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
    assert len(last) == 1 and "1 annotations have no polygon" in caplog.text
    assert records.usable.tolist() == [True, False, False]


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
        ({"segmentation": None}, "annotation 7 has a segmentation that is neither"),
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
def test_broken_annotations(tmp_path, entry, message):
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
def test_broken_files(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(coco(tmp_path, **changes))


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
def test_broken_panoptic_files(tiny, tmp_path, change, message):
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
    assert "1 images have no annotation" in caplog.text


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
    found = [r.frames[0].panoptic.name for r in records[: len(names)]]
    assert found == list(names.values())


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


def test_missing_folders_are_told(tiny, tmp_path):
    (tmp_path / "x.json").write_text((tiny / "panoptic.json").read_text())
    with pytest.raises(DataError, match=r"x: folder of panoptic PNGs not found"):
        load(f"{tmp_path}/x.json@{tiny}/images")
    with pytest.raises(DataError, match=r"gone: image folder not found \(nor gone.zip\)"):
        load(f"{tiny}/instances.json@{tmp_path}/gone")


# ---------------------------------------------------------------- label images, zip files


def test_label_images_below_folders(tmp_path):
    for city in ("a", "b"):
        for kind, suffix in (("images", "jpg"), ("labels", "png")):
            (tmp_path / kind / city).mkdir(parents=True)
            Image.new("L", (6, 4)).save(tmp_path / kind / city / f"one.{suffix}")
    (tmp_path / "classes.json").write_text('["x", "y"]')
    metadata, records = load(f"{tmp_path}/labels@{tmp_path}/images")
    assert metadata.classes == ("x", "y")
    assert [(r.id, r.size) for r in records] == [("a/one", (4, 6)), ("b/one", (4, 6))]
    (tmp_path / "images" / "b" / "one.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 label images have no image .*b/one\.png"):
        load(f"{tmp_path}/labels@{tmp_path}/images")


@pytest.mark.parametrize("inside", ["", "train/", "deep/train/"])
def test_images_in_a_zip_file(tiny, tmp_path, inside):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("readme.txt", "not an image")
        for file in sorted((tiny / "images").iterdir()):
            archive.write(file, f"{inside}{file.name}")
    for name in ("train.zip", "train"):  # the folder is asked for, its zip file is there
        _, records = load(f"{tiny}/instances.json@{tmp_path}/{name}")
        file = records[2].frames[0].file
        assert file == tmp_path / "train.zip" / inside / "02.png"
        assert np.array_equal(read_image(file), read_image(tiny / "images" / "02.png"))
        assert image_size(file) == records[2].size
    (tmp_path / "classes.json").write_text('["a", "b", "c"]')
    (tmp_path / "labels").symlink_to(tiny / "labels")
    _, records = load(f"{tmp_path}/labels@{tmp_path}/train.zip")
    assert [r.size for r in records][:2] == [(72, 64), (64, 80)]
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"broken\.zip: cannot be read as a zip"):
        image_folder(tmp_path / "broken.zip")


def test_labels_beside_their_photographs(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg", "c.tif", "c.JPEG"):
        Image.new("L", (6, 4)).save(tmp_path / name)
    (tmp_path / "classes.json").write_text('["x", "y"]')
    _, records = load(f"{tmp_path}@{tmp_path}")
    pairs = [(r.frames[0].file.name, r.frames[0].semantic.name) for r in records]
    assert pairs == [("a.jpg", "a.png"), ("c.JPEG", "c.tif")]
    Image.new("L", (6, 4)).save(tmp_path / "a.jpeg")
    with pytest.raises(DataError, match=r"a is not one label image and one photograph: .*a\.jpeg"):
        load(f"{tmp_path}@{tmp_path}")


def test_two_photographs_of_one_label_image(tmp_path):
    for folder, names in (("images", ("a.jpg", "a.png")), ("labels", ("a.png",))):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("L", (6, 4)).save(tmp_path / folder / name)
    (tmp_path / "classes.json").write_text('["x", "y"]')
    with pytest.raises(DataError, match=r"images/a\.jpg, .*images/a\.png"):
        load(f"{tmp_path}/labels@{tmp_path}/images")


@pytest.mark.parametrize("place", [60, 400])
def test_damaged_zip_files(tiny, tmp_path, place):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tiny / "images" / "00.png", "00.png")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.zip/00\.png: cannot be read as an image"):
        read_image(tmp_path / "x.zip" / "00.png")
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"x\.zip/01\.png: cannot be read as an image"):
        image_size(tmp_path / "x.zip" / "01.png")


def test_sizes_are_those_of_the_picture_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.new("RGB", (6, 4)).save(tmp_path / name, exif=exif)
        assert image_size(tmp_path / name) == (6, 4) == read_image(tmp_path / name).shape[:2]
    Image.new("RGB", (6, 4)).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: whole.index(b"IDAT") + 4])
    assert image_size(tmp_path / "b.png") == (4, 6)  # no pixel is decoded


# ---------------------------------------------------------------- Cityscapes


@pytest.fixture
def cityscapes(tmp_path):
    """Road, two cars, a group of cars, and what is not evaluated."""
    ids = np.full((8, 12), 7, np.uint16)
    ids[:2], ids[4:6, :4], ids[4:6, 4:8], ids[6:, :6] = 3, 26000, 26001, 26
    root = tmp_path / "cityscapes"
    for split in ("train", "val", "test"):
        images, truth = (root / f / split / "ulm" for f in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        Image.new("RGB", (12, 8)).save(images / "ulm_000_019_leftImg8bit.png")
        if split == "test":
            continue
        truth.mkdir(parents=True)
        Image.fromarray(ids).save(truth / "ulm_000_019_gtFine_instanceIds.png")
        labels = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
        Image.fromarray(labels).save(truth / "ulm_000_019_gtFine_labelIds.png")
    return tmp_path


def summary(metadata, record):
    return [
        (metadata.classes[s.category], s.shape.id, s.crowd, s.area)
        for s in record.frames[0].segments
    ]


THINGS = [("car", 26, True, 12.0), ("car", 26000, False, 8.0), ("car", 26001, False, 8.0)]


def test_cityscapes_from_its_own_files(cityscapes):
    metadata, records = load("cityscapes_fine_instance_seg_train", cityscapes)
    assert summary(metadata, records[0]) == THINGS
    assert records[0].size == (8, 12)
    metadata, records = load("cityscapes_fine_panoptic_val", cityscapes)
    assert summary(metadata, records[0]) == [("road", 7, False, 44.0), *THINGS]
    truth = semantic_map(records[0].frames[0], metadata)
    metadata, records = load("cityscapes_fine_sem_seg_val", cityscapes)
    assert np.array_equal(semantic_map(records[0].frames[0], metadata), truth)
    assert truth[0, 0] == -1 and metadata.classes[truth[4, 0]] == "car"


def test_cityscapes_test_split_has_no_truth(cityscapes):
    for name in ("cityscapes_fine_instance_seg_test", "cityscapes_fine_sem_seg_test"):
        _, records = load(name, cityscapes)
        assert [r.id for r in records] == ["ulm_000_019"]


def test_cityscapes_panoptic_files_are_used_where_they_are(cityscapes):
    folder = cityscapes / "cityscapes" / "gtFine" / "cityscapes_panoptic_val"
    folder.mkdir()
    segments = [{"id": 26000, "category_id": 26, "iscrowd": 0, "area": 8}]
    name = "ulm_000_019_gtFine_panoptic.png"
    content = {
        "images": [{"id": "ulm_000_019", "file_name": "unused", "height": 8, "width": 12}],
        "annotations": [{"image_id": "ulm_000_019", "file_name": name, "segments_info": segments}],
    }
    folder.with_suffix(".json").write_text(json.dumps(content))
    metadata, records = load("cityscapes_fine_panoptic_val", cityscapes)
    assert summary(metadata, records[0]) == [("car", 26000, False, 8)]
    assert records[0].frames[0].panoptic == folder / name
    assert records[0].frames[0].file.exists() and records[0].frames[0].semantic.exists()


def test_cityscapes_is_told_where_it_is_missed(cityscapes):
    with pytest.raises(DataError, match=r"leftImg8bit.* not found.*DETECTRON2_DATASETS"):
        load("cityscapes_fine_sem_seg_val", cityscapes / "nowhere")
    image = next((cityscapes / "cityscapes/leftImg8bit/val").glob("*/*"))
    image.rename(image.with_name("x.png"))
    with pytest.raises(DataError, match="has no CITY/"):
        load("cityscapes_fine_sem_seg_val", cityscapes)


# ---------------------------------------------------------------- real data


def test_real_panoptic_data(shared_data):
    folder = shared_data / "coco_panoptic_200"
    metadata, records = load(f"{folder}/annotations/panoptic_train2017.json")
    official, again = load(
        f"{folder}/annotations/panoptic_train2017.json@{folder}/images/train2017"
    )
    assert (len(metadata.classes), sum(metadata.is_thing)) == (133, 80)
    assert metadata.dataset_ids[78:82] == (89, 90, 92, 93)
    assert sum(len(r.frames[0].segments) for r in records) == 1111
    assert list(records) == list(again)
    assert official.classes == metadata.classes
    for record in records[:5]:
        frame = record.frames[0]
        assert frame.file.stem == frame.panoptic.stem
        ids, areas = np.unique(read_ids(frame.panoptic), return_counts=True)
        counted = dict(zip(ids.tolist(), areas.tolist(), strict=True))
        assert {s.shape.id: s.area for s in frame.segments} == {
            i: counted[i] for i in counted if i != 0
        }


def test_real_instances_match_pycocotools(shared_data):
    path = shared_data / "coco_polygons_mini" / "instances.json"
    _, records = load(str(path))
    content = json.loads(path.read_text())
    size = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
    expected = []
    for entry in content["annotations"]:
        parts = coco_mask.frPyObjects(entry["segmentation"], *size[entry["image_id"]])
        rle = coco_mask.merge(parts) if isinstance(parts, list) else parts
        expected.append((entry["image_id"], bytes(rle["counts"])))
    found = [
        (r.id, bytes(masks.to_rle(s, r.frames[0], r.size)["counts"]))
        for r in records
        for s in r.frames[0].segments
    ]
    assert sorted(found) == sorted(expected) and len(found) == 476


@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("nuclei_dsb2018_cc0/annotations/instances_val.json", 54, 1),
        ("dubai_aerial_cc0/labels/val", 8, 5),
        ("dubai_aerial_cc0/hires/panoptic.json", 4, 5),
        ("camvid_480x360/labels/test", 59, 11),
        ("coco_mosaic_hires/panoptic.json", 1, 133),
    ],
)
def test_real_data_by_path(shared_data, name, count, classes):
    metadata, records = load(f"{shared_data}/{name}")
    assert (len(records), len(metadata.classes)) == (count, classes)
    frame = records[-1].frames[0]
    assert frame.file.exists()
    if "labels" in name:
        assert semantic_map(frame, metadata).max() < classes
        assert metadata.colors[0] != metadata.colors[1]
    if "camvid" in name:
        assert metadata.ignore_label == 11


def test_formats_are_a_table():
    assert {"coco_instances", "coco_panoptic", "label_png"} <= FORMATS.keys()
    assert all(format.name == name for name, format in FORMATS.items())
