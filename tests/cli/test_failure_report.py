"""When there is a page of failures, and what it is made from."""

import json
import logging

import pytest
from loading import load
from tiny import make_dataset
from tiny_runs import SHORT, train_net

from segcore.build.report import build_sections, reported
from segcore.cli import measure
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.segment_rle import to_rle


@pytest.fixture(scope="module")
def catalog_file(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny"), 3)


def test_measured_files_have_a_page(catalog_file, tmp_path):
    metadata, records = load("tiny_instances", files=[catalog_file])
    rows = []
    for record in records:
        segment = record.frames[0].segments[0]
        rle = to_rle(segment, record.frames[0], record.size)
        shape = rle | {"counts": rle["counts"].decode()}
        category = metadata.dataset_ids[segment.category]
        rows.append({"image_id": record.id, "category_id": category, "score": 0.9})
        rows[-1]["segmentation"] = shape
    (tmp_path / "results.json").write_text(json.dumps(rows))
    status = measure.main(
        predictions=tmp_path / "results.json",
        name="tiny_instances",
        evaluators=("instance",),
        catalogs=[catalog_file],
        output=None,
        report=tmp_path / "report.html",
    )
    text = (tmp_path / "report.html").read_text()
    assert status == 0 and "Objects (instances)" in text and "data:image/jpeg" in text


def test_pages_come_after_the_last_evaluation_of_ones_own_data(catalog_file):
    def names(when, last):
        own, published = "tiny_instances", "coco_2017_val_panoptic"
        cfg = load_config(None, ["DATASETS.TEST", f"[{own}, {published}]", "TEST.REPORT", when])
        return reported(cfg, Catalog(catalog_file.parent, [catalog_file]), last=last)

    assert names("auto", True) == ["tiny_instances"]
    assert names("auto", False) == names("never", True) == []
    assert names("always", False) == ["tiny_instances", "coco_2017_val_panoptic"]


def test_a_set_without_annotations_is_said_in_one_line(catalog_file, caplog):
    catalog = Catalog(catalog_file.parent, [catalog_file])
    metadata = catalog.metadata("tiny_panoptic")
    kinds = {"panoptic", "semantic", "instance"}
    sections = build_sections(kinds, catalog, metadata)
    assert [s.kind for s in sections] == ["panoptic", "instance", "semantic"]
    catalog.annotated = lambda name: False
    with caplog.at_level(logging.WARNING):
        assert build_sections(kinds, catalog, metadata) == []
    assert caplog.messages == [
        "tiny_panoptic has no annotations: there is no report of where a model fails"
    ]


def test_results_without_a_page_are_named(catalog_file, caplog):
    catalog = Catalog(catalog_file.parent, [catalog_file])
    assert build_sections({"tracks"}, catalog, catalog.metadata("tiny_panoptic")) == []
    assert "no report, tracks is measured; there are reports of panoptic" in caplog.text


@pytest.mark.slow
def test_two_ranks_make_the_page_of_one(tmp_path):
    """Every number, picture and doubt: each rank has seen half of the images."""
    make_dataset(tmp_path / "data")
    run, evaluation = tmp_path / "run", ["TEST.REPORT", "always", "TEST.PREPARE", "false"]
    tests = ["DATASETS.TEST", "[tiny_panoptic]", *evaluation]
    train_net(run, *SHORT, *tests, "SOLVER.BASE_LR", "0.002", "SOLVER.PREPARE", "false")
    place = "inference/tiny_panoptic"
    weights = ["MODEL.WEIGHTS", str(run / "model_final.pth"), "MODEL.DEVICE", "cpu"]
    train_net(tmp_path / "pair", *tests, *weights, flags=["--eval-only", "--num-gpus", "2"])
    pages, metrics = (
        [(folder / place / name).read_text() for folder in (run, tmp_path / "pair")]
        for name in ("report.html", "metrics.json")
    )
    assert pages[0] == pages[1] and metrics[0] == metrics[1]
    assert pages[0].count("data:image/jpeg") > 4 and "8 images with 24 annotated" in pages[0]
