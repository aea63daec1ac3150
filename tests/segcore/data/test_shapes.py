"""Polygons and RLEs that pycocotools must never see."""

import json

import numpy as np
import pytest
from loading import load
from pycocotools import mask as coco_mask

from segcore.data.parsing.run_lengths import BATCH, totals
from segcore.errors import DataError

SQUARE = [1, 1, 4, 1, 4, 3]
NAN = float("nan")


def dataset(folder, shapes):
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "segmentation": shape}
        for i, shape in enumerate(shapes)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}]
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "x"}]
    (folder / "x.json").write_text(json.dumps(content))
    return f"{folder}/x.json@{folder}"


@pytest.mark.parametrize(
    "ring",
    [
        [1, 1, NAN, 1, 4, 3],
        [NAN, 1, 4, 1, 4, 3],
        [1, 1, float("inf"), 1, 4, 3],
        [1, 1, None, 1, 4, 3],
        [1, 1, "4", 1, 4, 3],
        [1, 1, True, 1, 4, 3],
        [1, 1, 1e7, 1, 4, 3],
        [1, 1, 4, -(10**400), 4, 3],
        [[1, 1], [4, 1], [4, 3], [4, 2], [3, 3], [2, 2]],
    ],
)
def test_polygons_are_flat_lists_of_finite_numbers(tmp_path, ring):
    with pytest.raises(DataError, match=r"x\.json: annotation 1 has a polygon .*flat list x0, y0"):
        load(dataset(tmp_path, [[SQUARE], [SQUARE, ring]]))


def rle(counts, size=(4, 6)):
    return {"size": None if size is None else list(size), "counts": counts}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (rle("52g0"), "add up to 30; expected height x width = 24"),
        (rle("0"), "add up to 0; expected"),
        (rle(""), "an RLE text that is broken"),
        (rle("52a"), "an RLE text that is broken"),  # the last number goes on
        (rle("é"), "an RLE text that is broken"),
        (rle("5O"), "an RLE text that is broken"),  # a negative run
        (rle("ooooooooooo0"), "an RLE text that is broken"),
        (rle(None), "RLE counts None"),
        (rle("52a0", None), "size None; expected a list"),
        (rle([30, -6]), "no whole numbers from 0"),
        (rle([12.0, 12.0]), "no whole numbers from 0"),
        (rle(["a"]), "no whole numbers from 0"),
    ],
)
def test_run_lengths_cover_their_image(tmp_path, shape, message):
    with pytest.raises(DataError, match=rf"x\.json: annotation 1 has .*{message}"):
        load(dataset(tmp_path, [rle("52a0"), shape, rle("52a0")]))


def test_every_rle_of_a_long_file_is_looked_at(tmp_path):
    shapes = [rle("52a0")] * (2 * BATCH + 3)
    assert len(load(dataset(tmp_path, shapes))[1][0].frames[0].segments) == 131
    for i in (BATCH - 1, BATCH, 2 * BATCH + 2):
        broken = [*shapes[:i], rle("52g0"), *shapes[i + 1 :]]
        with pytest.raises(DataError, match=f"annotation {i} has run lengths"):
            load(dataset(tmp_path, broken))


def test_totals_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    texts, pixels = [], []
    for share in np.linspace(0, 1, 300):
        size = rng.integers(1, 60, 2)
        mask = np.asfortranarray(rng.random(size) < share, dtype=np.uint8)
        texts.append(coco_mask.encode(mask)["counts"])
        pixels.append(size.prod())
    assert totals(texts).tolist() == pixels
    assert [totals([text])[0] for text in texts] == pixels
    large = np.asfortranarray(np.zeros((3000, 5000), np.uint8))
    large[1500:, 2500:] = 1
    assert totals([coco_mask.encode(large)["counts"]]).tolist() == [15_000_000]
