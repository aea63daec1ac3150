"""--fix: what can be mended is, what cannot is left, and the original stays as it was."""

from __future__ import annotations

import json

import pytest
from drawn_images import square

from segcore import masks
from segcore.cli import doctor
from segcore.data.catalog import Catalog
from segcore.data.doctor import examine
from segcore.doctor import mend as mending
from segcore.doctor import mend_annotation as mends
from segcore.doctor.mend import mend
from segcore.errors import ConfigError

SIZE = (48, 64)
FLAT = [3, 3, 9, 9, 6, 6]
RING = square(5, 5, 20)
UNIT = [v / (SIZE[1], SIZE[0])[i % 2] for i, v in enumerate(RING)]
POINTS = [[x, y] for x, y in zip(RING[::2], RING[1::2], strict=True)]


def written(tmp_path, **more):
    """The mended file's content, and what has been done."""
    path = tmp_path / "train.json"
    before = path.read_bytes()
    out = tmp_path / "mended.json"
    done = mend(path, out, file_of=lambda file: tmp_path / "train" / file, **more)
    assert path.read_bytes() == before
    return json.loads(out.read_text()), {what: n for what, n in done.items() if n}


@pytest.mark.parametrize(
    ("change", "what", "expected"),
    [
        ({"segmentation": [UNIT], "area": 0.1}, {mends.SCALED: 1}, {"area": 400.0}),
        ({"segmentation": [UNIT], "bbox": [0.1, 0.1, 0.3, 0.4]}, {mends.SCALED: 1},
         {"bbox": [5.0, 5.0, 20.0, 20.0]}),
        ({"segmentation": [RING, RING[:-1]]}, {mends.RINGS: 1}, {"segmentation": [RING]}),
        ({"segmentation": [FLAT, RING]}, {mends.RINGS: 1}, {"segmentation": [RING]}),
        ({"segmentation": POINTS}, {mends.FLATTENED: 1}, {"segmentation": [RING]}),
        ({"segmentation": [POINTS]}, {mends.FLATTENED: 1}, {"segmentation": [RING]}),
        ({"segmentation": RING}, {mends.FLATTENED: 1}, {"segmentation": [RING]}),
        ({"area": 0}, {mends.AREA: 1}, {"area": 400.0}),
        ({"area": -3.5}, {mends.AREA: 1}, {"area": 400.0}),
        ({"area": None}, {mends.AREA: 1}, {"area": 400.0}),
        ({"bbox": [5, 5, 0, 20]}, {mends.BOX: 1}, {"bbox": [5.0, 5.0, 20.0, 20.0]}),
        ({"image_id": "1"}, {mending.TYPES: 1}, {"image_id": 1}),
    ],
)  # fmt: skip
def test_annotations_that_are_mended(tmp_path, coco, change, what, expected):
    coco([[{}, change]])
    content, done = written(tmp_path)
    sound, changed = content["annotations"]
    assert done == what
    assert expected.items() <= changed.items()
    assert sound == json.loads((tmp_path / "train.json").read_text())["annotations"][0]
    drawn = masks.encode_polygons(changed["segmentation"], SIZE)
    assert masks.area([drawn])[0] == pytest.approx(400)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"segmentation": [RING[:-1]]}, {mends.RINGS: 1, mends.EMPTY: 1}),
        ({"segmentation": [FLAT]}, {mends.RINGS: 1, mends.EMPTY: 1}),
        ({"segmentation": []}, {mends.NO_MASK: 1}),
        ({"segmentation": [[]]}, {mends.NO_MASK: 1}),
        ({"segmentation": None}, {mends.NO_MASK: 1}),
        ({"segmentation": {"size": [48, 64], "counts": [48 * 64]}}, {mends.EMPTY: 1}),
        ({"image_id": 9}, {mending.NO_IMAGE: 1}),
        ({"image_id": None}, {mending.NO_IMAGE: 1}),
    ],
)
def test_annotations_that_are_dropped(tmp_path, coco, change, what):
    coco([[{}, change]])
    content, done = written(tmp_path)
    assert done == what and [a["id"] for a in content["annotations"]] == [1]


def test_what_is_sound_or_not_understood_stays(tmp_path, coco):
    rle = {"size": [48, 64], "counts": [0, 100, 48 * 64 - 100]}
    entries = [{}, {"segmentation": rle, "area": 100, "iscrowd": 1}, {"segmentation": "x"}]
    entries += [{"segmentation": [square(70, 5, 20)]}, {"segmentation": [RING, square(5, 50, 9)]}]
    entries += [{"segmentation": rle | {"size": [9, 9]}}, {"segmentation": [["a"] * 6]}]
    coco([entries], more=[{"id": 77, "image_id": 1, "score": 0.5, "segmentation": "?"}])
    content, done = written(tmp_path)
    assert content == json.loads((tmp_path / "train.json").read_text())
    assert not done


def test_a_class_of_crowds_alone_is_none(tmp_path, coco):
    crowd = {"iscrowd": 1}
    coco([[crowd, crowd, {"category_id": 2}, {"category_id": 2, "iscrowd": 1}]])
    content, done = written(tmp_path)
    assert [a["iscrowd"] for a in content["annotations"]] == [0, 0, 0, 1]
    assert done == {mends.CROWD: 2}


def test_images(tmp_path, coco):
    coco([[{}], [{}, {}], [{}], [{}]])
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    images = content["images"]
    del images[0]["width"]
    images += [images[0] | {"file_name": "other.png"}, {"id": 8}, 3]
    images += [images[3] | {"id": 9}]  # the file of image 4, which has an annotation
    path.write_text(json.dumps(content))
    (tmp_path / "train/3.png").unlink()
    copies = {tmp_path / "train/2.png": tmp_path / "train/1.png"}
    mended, done = written(tmp_path, copies=copies)
    assert [image["id"] for image in mended["images"]] == [2, 4]  # 2 has more than 1
    assert {a["image_id"] for a in mended["annotations"]} == {2, 4}
    assert done == {
        mending.TWICE_LISTED: 1, mending.NO_ENTRY: 2, mending.NO_FILE: 1, mending.COPIES: 2,
        mending.NO_IMAGE: 2,
    }  # fmt: skip
    assert mended["info"] == content["info"] and list(mended) == list(content)


def test_broken_images_are_dropped(tmp_path, coco):
    coco([[{}], [{}]])
    mended, done = written(tmp_path, broken={tmp_path / "train/2.png"})
    assert [image["id"] for image in mended["images"]] == [1]
    assert done == {mending.NO_FILE: 1, mending.NO_IMAGE: 1}


def test_missing_sizes_are_those_of_the_file(tmp_path, coco):
    coco([[{}]])
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace('"height": 48, "width": 64', '"height": 0'))
    mended, done = written(tmp_path)
    assert (mended["images"][0]["height"], mended["images"][0]["width"]) == SIZE
    assert done == {mending.SIZES: 1}


@pytest.mark.parametrize("way", ["train.json", "link.json", "folder/../train.json"])
def test_the_file_itself_is_never_written(tmp_path, coco, way):
    name = coco([[{}]])
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "train.json")
    with pytest.raises(ConfigError, match="is the file that is mended"):
        mend(tmp_path / "train.json", tmp_path / way, file_of=lambda file: tmp_path / file)
    assert examine(Catalog(tmp_path), name).counts == {}


def test_a_mended_file_is_clean(tmp_path, coco, capsys):
    """All that can be mended at once; images 2 and 3 are the same."""
    broken = [{"segmentation": [UNIT], "area": 0}, {"segmentation": POINTS}, {"image_id": 99}]
    broken += [{"segmentation": [RING[:-1]]}, {"segmentation": []}, {"area": -1}]
    broken += [{"category_id": 2, "iscrowd": 1}]
    rest = [{}, {"category_id": 2, "iscrowd": 1}] * 10
    name = coco([broken, rest, [{}]], seeds=[0, 1, 1])
    out = tmp_path / "out" / "mended.json"
    given = {"names": [name], "images": True, "strict": True}
    assert doctor.main(**given, fix=out) == 1
    printed = capsys.readouterr().out
    assert f"mended: {mends.SCALED}: 1\n" in printed and f"mended: {mends.CROWD}: 11\n" in printed
    assert f"written: {out}; 0 problems are left in it\n" in printed
    again = f"{out}@{tmp_path}/train"
    assert f"segcore doctor {again}\n" in printed
    assert doctor.main(**given | {"names": [again]}) == 0
    assert not examine(Catalog(tmp_path), again).counts


def test_other_formats_are_not_mended(tmp_path, coco):
    with pytest.raises(ConfigError, match="one COCO file of instances at a time, not 2 data sets"):
        doctor.main(names=[coco([[{}]]), coco([[{}]], name="val")], fix=tmp_path / "out.json")
