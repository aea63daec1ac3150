"""Predictions in files are measured as those of a model are."""

import json
from pathlib import Path

import numpy as np
import pytest
from loading import load
from PIL import Image
from tiny import make_dataset

from segcore.cli import measure
from segcore.errors import ConfigError, DataError
from segcore.segment_rle import to_rle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return folder, make_dataset(folder, 3)


def perfect(name: str, catalog: Path) -> list[dict]:
    """The truth as COCO's results, worst first."""
    metadata, records = load(name, files=[catalog])
    rows = []
    for record in records:
        for n, segment in enumerate(record.frames[0].segments):
            rle = to_rle(segment, record.frames[0], record.size)
            rows.append(
                {
                    "image_id": record.id,
                    "category_id": metadata.dataset_ids[segment.category],
                    "segmentation": rle | {"counts": rle["counts"].decode()},
                    "score": 0.1 + n / 100,
                }
            )
    return rows


def measured(
    tmp_path: Path, rows: list[dict], catalog: Path, *evaluators: str, detections: int = 0
) -> dict:
    path, output = tmp_path / "results.json", tmp_path / "metrics.json"
    path.write_text(json.dumps(rows))
    status = measure.main(
        predictions=path,
        name="tiny_instances",
        evaluators=evaluators,
        catalogs=[catalog],
        output=output,
        detections=detections,
    )
    assert status == 0
    return json.loads(output.read_text())


def test_coco_results(tiny, tmp_path, capsys):
    _, catalog = tiny
    rows = perfect("tiny_instances", catalog)
    results = measured(tmp_path, rows, catalog)
    assert results["AP"] == results["boundary AP"] == pytest.approx(100)
    assert "tiny_instances" in capsys.readouterr().out
    assert {"AR100", "boundary AR100"} <= results.keys()
    # an image without predictions has missed all of its objects
    first = rows[0]["image_id"]
    some = measured(tmp_path, [r for r in rows if r["image_id"] != first], catalog, "contour")
    objects = sum(r["image_id"] == first for r in rows)
    assert some == {
        "contour F1px": 100,
        "contour F3px": 100,
        "contour F5px": 100,
        "contour found": pytest.approx(100 * (1 - objects / len(rows))),
    }


def test_the_number_of_predictions_that_count_can_be_said(tiny, tmp_path):
    _, catalog = tiny
    rows = perfect("tiny_instances", catalog)
    assert measured(tmp_path, rows, catalog, detections=300)["AR300"] == pytest.approx(100)


def test_boxes_are_those_of_the_file_if_it_has_any(tiny, tmp_path):
    _, catalog = tiny
    rows = perfect("tiny_instances", catalog)
    for box, expected in (([0, 0, 0, 0], 100), ([0, 0, 1, 1], 0)):
        results = measured(tmp_path, [row | {"bbox": box} for row in rows], catalog)
        assert (results["APb"], results["AP"]) == (pytest.approx(expected), pytest.approx(100))


def test_images_that_the_data_set_lacks(tiny, tmp_path, caplog):
    _, catalog = tiny
    rows = perfect("tiny_instances", catalog)
    other = [row | {"image_id": 99} for row in rows]
    assert measured(tmp_path, rows + other, catalog)["AP"] == pytest.approx(100)
    assert "1 of 4 images are not in tiny_instances" in caplog.text
    with pytest.raises(DataError, match=r"none of its 1 images is in tiny_instances \(it has 99"):
        measured(tmp_path, other, catalog)


def test_mistakes_raise(tiny, tmp_path):
    _, catalog = tiny
    rows = perfect("tiny_instances", catalog)
    with pytest.raises(DataError, match=r"results\.json: image .* has category 77"):
        measured(tmp_path, [rows[0] | {"category_id": 77}, *rows[1:]], catalog)
    small = rows[0]["segmentation"] | {"size": [2, 2], "counts": "04"}
    with pytest.raises(DataError, match=r"mask of size \(2, 2\)"):
        measured(tmp_path, [rows[0] | {"segmentation": small}], catalog)
    with pytest.raises(ConfigError, match=r"tiny_semantic is evaluated by semantic; predictions"):
        measure.main(
            predictions=tmp_path / "results.json",
            name="tiny_semantic",
            evaluators=(),
            catalogs=[catalog],
            output=None,
        )


def test_cityscapes_results(tmp_path, monkeypatch):
    """Two cars, of which one is found."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    ids = np.full((40, 60), 7, np.uint16)
    ids[5:25, 5:25], ids[5:25, 30:50] = 26001, 26002
    stem, city = "ulm_000000_000019", tmp_path / "cityscapes"
    for path, pixels in (
        (f"leftImg8bit/val/ulm/{stem}_leftImg8bit.png", np.zeros((40, 60, 3), np.uint8)),
        (f"gtFine/val/ulm/{stem}_gtFine_instanceIds.png", ids),
        (f"results/{stem}_0.png", (ids == 26001).astype(np.uint8)),
    ):
        (city / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(city / path)
    (city / f"results/{stem}_leftImg8bit_pred.txt").write_text(f"{stem}_0.png 26 0.9\n")
    status = measure.main(
        predictions=city / "results",
        name="cityscapes_fine_instance_seg_val",
        evaluators=(),
        catalogs=(),
        output=tmp_path / "metrics.json",
    )
    assert status == 0
    results = json.loads((tmp_path / "metrics.json").read_text())
    assert results["cityscapes AP"] == results["cityscapes AP-car"] == pytest.approx(50)
    assert results["AP"] == pytest.approx(100 * 51 / 101)
    assert results["boundary AP50"] == results["AP"]
