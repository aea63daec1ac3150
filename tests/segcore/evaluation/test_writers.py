"""Results as files and as tables."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import perturbed
import pytest
import torch
from PIL import Image

from segcore import masks
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.predictions import Predictions
from segcore.evaluation.table import format_table
from segcore.evaluation.writers import coco_json, id_png, panoptic_png, write_json, write_png
from segcore.labels import read_ids
from segcore.structures import Frame, Metadata, Panoptic, PanopticSegment, Record, Result

VAL = "coco_panoptic_200/annotations/panoptic_val2017.json"


@pytest.fixture(scope="module")
def coco(shared_data):
    metadata, records = perturbed.load(shared_data, VAL)
    return metadata, records[:3]


def test_instances_become_coco_results(coco, tmp_path):
    metadata, records = coco
    result = perturbed.perfect(records[0], metadata)
    assert result.instances is not None
    write_json(tmp_path / "new/folder/found.json", coco_json(result, records[0].id, metadata))
    rows = json.loads((tmp_path / "new/folder/found.json").read_text())
    assert len(rows) == len(result.instances.masks) > 0
    for row, label, rle in zip(
        rows, result.instances.labels.tolist(), result.instances.masks, strict=True
    ):
        assert row["image_id"] == records[0].id
        assert row["category_id"] == metadata.dataset_ids[label]
        again = row["segmentation"] | {"counts": row["segmentation"]["counts"].encode()}
        assert np.array_equal(masks.decode(again), masks.decode(rle))
    assert coco_json(Result(), 1, metadata) == []


def test_panoptic_png_reads_back_as_the_same_map(coco, tmp_path):
    metadata, records = coco
    panoptic = perturbed.perfect(records[1], metadata).panoptic
    assert panoptic is not None
    assert int(panoptic.map.max()) > 65536  # needs all three channels
    pixels, segments = panoptic_png(panoptic, metadata)
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(read_ids(tmp_path / "a.png"), panoptic.map.numpy())
    for written, segment in zip(segments, panoptic.segments, strict=True):
        assert written["category_id"] == metadata.dataset_ids[segment.category]
        assert written["isthing"] == int(metadata.is_thing[segment.category])
        assert written["id"] == segment.id
    json.dumps(segments)


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    write_png(tmp_path / "b.png", np.full((3, 4), 7, np.int16))
    assert np.asarray(Image.open(tmp_path / "b.png")).tolist() == [[7] * 4] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.png"]


def test_ids_of_any_size_are_written_whole(tmp_path):
    ids = torch.zeros(2, 3, dtype=torch.int32)
    ids[0, 0] = 65535
    write_png(tmp_path / "a.png", id_png(Panoptic(ids, [])))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == ids.tolist()
    ids[1, 2] = 0x01020304
    write_png(tmp_path / "b.png", id_png(Panoptic(ids, [])))
    parts = np.asarray(Image.open(tmp_path / "b.png")).astype(np.int64)
    assert (parts << np.array([0, 8, 16, 24])).sum(2).tolist() == ids.tolist()


def test_numbers_come_back_from_written_files(coco, tmp_path):
    """What the demo writes is worth what the evaluator saw."""
    metadata, records = coco
    rng = np.random.default_rng(0)
    seen, again = PanopticEvaluator(metadata), PanopticEvaluator(metadata)
    for record in records:
        result = perturbed.result(record, metadata, rng)
        assert result.panoptic is not None
        seen.update(result, record)
        pixels, segments = panoptic_png(result.panoptic, metadata)
        write_png(tmp_path / "p.png", pixels)
        classes = {number: k for k, number in enumerate(metadata.dataset_ids)}
        listed = [
            PanopticSegment(s["id"], classes[s["category_id"]], bool(s["isthing"]), 1.0, s["area"])
            for s in segments
        ]
        ids = torch.from_numpy(read_ids(tmp_path / "p.png"))
        again.update(Result(panoptic=Panoptic(ids, listed)), record)
    assert again.compute() == seen.compute()


def test_table_shows_every_number(coco):
    metadata, records = coco
    rng = np.random.default_rng(0)
    evaluators = (InstanceEvaluator(metadata), PanopticEvaluator(metadata))
    results: dict[str, float] = {}
    for evaluator in evaluators:
        for record in records:
            evaluator.update(perturbed.result(record, metadata, rng), record)
        results |= evaluator.compute()
    table = format_table(results, title="val")
    lines = table.splitlines()
    assert "val" in table
    assert max(len(line) for line in lines) <= 120
    for name, value in results.items():
        kind, _, label = name.partition("-")
        assert kind in table
        shown = f"{value:.2f}"
        if label:
            assert any(f" {label} " in line and f" {shown} " in line for line in lines), name
        elif not np.isnan(value):
            assert shown in table
    assert "nan" not in table


def test_table_of_awkward_names_and_numbers():
    names = {"AP": 50.0, "APl": float("nan"), "AP-traffic-light": 12.5, "AP-[red]:smile:": 7.0}
    table = format_table(names)
    assert "│ traffic-light" in table
    assert "[red]:smile:" in table
    assert " - " in table
    assert "12.50" not in format_table({"AP": 12.0, "AP-cell": 12.5})  # one class: the same number
    many = format_table({f"IoU-class {i}": float(i) for i in range(150)})
    assert all(f" {i}.00 " in many for i in range(150))
    assert many.count("\n") < 45


def test_a_console_without_its_signs_has_a_table_of_plain_ones(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    table = format_table({"AP": 50.0, "AP-Ärmel": 12.5, "AP-口": 7.0})
    assert "| Ärmel |" in table
    assert "口" in table  # for the log's file; the console writes it in its own signs
    assert not set(table) - set("口Ä") - {chr(i) for i in range(128)}


def test_numbers_that_are_none_are_null_in_json(tmp_path):
    nan, inf = float("nan"), float("inf")
    content = {"APl": nan, "list": [1.5, (inf, -inf)], "inner": {"x": np.float64("nan")}, "n": 1}
    write_json(tmp_path / "a.json", content)
    wanted = {"APl": None, "list": [1.5, [None, None]], "inner": {"x": None}, "n": 1}
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == wanted


def test_predictions_of_long_names_are_shortened(coco, tmp_path):
    metadata, records = coco
    result = perturbed.result(records[0], metadata, np.random.default_rng(1))
    written = Predictions(tmp_path, metadata)
    names = ["口" * 80 + end for end in ("a", "b")]
    for i, name in enumerate(names):
        frame = replace(records[0].frames[0], file=Path("/photos") / f"{name}.png")
        written(result, replace(records[0], id=i, frames=(frame,)))
    written.join()
    files = list((tmp_path / "predictions").iterdir())
    assert len({file.name for file in files}) == 2
    assert all(len(file.name.encode()) <= 255 and file.name.startswith("口" * 60) for file in files)
    listed = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    assert {x["file_name"] for x in listed} == {file.name for file in files}


def test_predictions_of_two_ranks_become_one_set_of_files(coco, tmp_path):
    metadata, records = coco
    rng = np.random.default_rng(1)
    results = [perturbed.result(record, metadata, rng) for record in records]
    ranks = [Predictions(tmp_path, metadata, rank) for rank in range(2)]
    for i, (result, record) in enumerate(zip(results, records, strict=True)):
        ranks[i % 2](result, record)
    ranks[0].join(2)
    assert not list(tmp_path.glob("*.part"))
    found = json.loads((tmp_path / "coco_instances_results.json").read_text())
    wanted = [
        coco_json(result, record.id, metadata)
        for result, record in zip(results, records, strict=True)
    ]
    assert found == [*wanted[0], *wanted[2], *wanted[1]]  # rank by rank
    listed = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    assert {x["image_id"] for x in listed} == {record.id for record in records}
    for x in listed:
        ids = read_ids(tmp_path / "predictions" / x["file_name"])
        assert {s["id"] for s in x["segments_info"]} == set(np.unique(ids[ids > 0]).tolist())
    stem = records[0].frames[0].file.stem
    classes = np.asarray(Image.open(tmp_path / f"semantic/{stem}.png"))
    wanted = np.array(metadata.dataset_ids)[results[0].semantic.numpy()]
    assert np.array_equal(classes, wanted)


def small(file, number, metadata):
    ids = torch.ones(2, 3, dtype=torch.int32)
    panoptic = Panoptic(ids, [PanopticSegment(1, 0, True, 1.0, 6)])
    result = Result(semantic=torch.zeros(2, 3, dtype=torch.int16), panoptic=panoptic)
    return result, Record(number, (2, 3), (Frame(Path(file)),))


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([("im/a.jpg", 1), ("im/b.1.jpg", 2)], ["a", "b.1"]),
        ([("im/u/one.jpg", 1), ("im/v/one.jpg", 2)], ["one", "v/one"]),
        ([("im/u/one.jpg", "u/one"), ("im/v/one.jpg", "v/one")], ["u/one", "v/one"]),
        ([("/x/im/one.jpg", 1), ("/y/im/one.jpg", 2)], ["one", "im/one"]),
        ([("im/../one.jpg", "../one"), ("one.jpg", 2), ("one.png", 3)],
         ["one", "one 2", "one 3"]),
    ],
)  # fmt: skip
def test_images_of_one_name_do_not_overwrite_each_other(tmp_path, given, names):
    metadata = Metadata("one", ("cell",), (1,), (True,), ((0, 0, 0),))
    for _ in range(2):  # a second evaluation writes to the same places
        ranks = [Predictions(tmp_path, metadata, rank) for rank in range(2)]
        for i, (file, number) in enumerate(given):
            ranks[i % 2](*small(file, number, metadata))
        ranks[0].join(2)
        rows = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
        written = {row["image_id"]: row["file_name"] for row in rows}
        assert written == {n: f"{name}.png" for (_, n), name in zip(given, names, strict=True)}
        for kind in ("predictions", "semantic"):
            files = {p.relative_to(tmp_path / kind).as_posix() for p in
                     (tmp_path / kind).rglob("*.png")}  # fmt: skip
            assert files == set(written.values())
        assert not list(tmp_path.glob("*.part"))
