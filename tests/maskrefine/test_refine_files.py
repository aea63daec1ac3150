"""Predictions of all three forms in, refined ones of the same form out; stopped runs go on."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import METADATA, SIZE, coarse, coco_entries, make_records, quick_network

from maskrefine.bpr import PatchRefiner
from maskrefine.refine_files import refine_predictions
from maskrefine.truth import pictures_in
from segcore.data.images import read_image
from segcore.errors import DataError
from segcore.masks import decode, encode
from segcore.predictions.read import read_predictions


@pytest.fixture(scope="module")
def refiner():
    return PatchRefiner(quick_network())


@pytest.fixture
def records(tmp_path):
    return make_records(tmp_path / "images")


def write_coco(folder, entries):
    file = folder / "results.json"
    file.write_text(json.dumps(entries))
    return file


def write_cityscapes(folder, count=4):
    folder.mkdir()
    for i in range(count):
        lines = []
        for k, mask in enumerate(coarse(i)):
            name = f"given_{i}_{k}.png"
            Image.fromarray(mask.astype(np.uint8)).save(folder / name)  # 0 and 1
            lines.append(f"{name} {24 + k} 0.{k + 3}\n")
        (folder / f"scene_{i}_leftImg8bit_pred.txt").write_text("".join(lines))
    (folder / "scene_9_leftImg8bit_pred.txt").write_text("")  # an image without instances
    return folder


def write_demo(folder, records):
    folder.mkdir()
    for i, record in enumerate(records):
        entries = [e for e in coco_entries() if e["image_id"] == record.id]
        content = {"file_name": str(record.frames[0].file), "size": list(SIZE)}
        content |= {"instances": entries, "panoptic": {"file_name": "x.png"}}
        (folder / f"scene.{i}.json").write_text(json.dumps(content))
    return folder


def refined_masks(refiner, records, i, threshold=0.25):
    return refiner(read_image(records[i].frames[0].file), coarse(i), threshold)


def mask_of(entry):
    rle = entry["segmentation"]
    return decode({"size": rle["size"], "counts": rle["counts"].encode()})


class Stop(Exception):
    """Somebody pulls the plug."""


def stop_after(count):
    def progress(done, total):
        if done == count:
            raise Stop

    return progress


def test_coco_results_keep_their_order_and_all_else(tmp_path, refiner, records):
    entries = coco_entries()
    file, output = write_coco(tmp_path, entries), tmp_path / "out" / "refined.json"
    before = file.read_bytes()
    predictions = read_predictions(file)
    report = refine_predictions(refiner, predictions, output, pictures_in(predictions, records))
    assert (report.done, report.before, report.missing) == (4, 0, ())
    refined = json.loads(output.read_text())
    assert file.read_bytes() == before
    assert not output.with_name("refined.json.parts").exists()
    for old, new in zip(entries, refined, strict=True):
        same = ("image_id", "category_id", "score", "note")
        assert [old[k] for k in same] == [new[k] for k in same]
        wanted = refined_masks(refiner, records, old["image_id"] - 10)[old["note"]]
        np.testing.assert_array_equal(mask_of(new), wanted)
        y, x = wanted.nonzero()
        box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
        assert new["bbox"] == box


def test_cityscapes_folder_in_and_out(tmp_path, refiner, records):
    folder, output = write_cityscapes(tmp_path / "coarse"), tmp_path / "refined"
    predictions = read_predictions(folder)
    assert predictions.images == ("scene_0", "scene_1", "scene_2", "scene_3", "scene_9")
    assert predictions.read("scene_2").places == (4, 5)
    images = tmp_path / "images"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images / "scene_9.png")
    refine_predictions(refiner, predictions, output, lambda p: images / f"{p.image}.png")
    again = read_predictions(output)
    assert again.images == predictions.images
    assert again.read("scene_9").masks == ()
    for i in range(4):
        found = again.read(f"scene_{i}")
        assert found.categories == (24, 25)
        assert found.scores == (0.3, 0.4)
        wanted = refined_masks(refiner, records, i)
        np.testing.assert_array_equal(np.stack([decode(r) for r in found.masks]), wanted)


def test_demo_folder_in_and_out(tmp_path, refiner, records):
    folder, output = write_demo(tmp_path / "demo", records), tmp_path / "refined"
    predictions = read_predictions(folder)
    refine_predictions(refiner, predictions, output, lambda found: found.picture)
    content = json.loads((output / "scene.1.json").read_text())
    assert sorted(content) == ["file_name", "instances", "size"]
    wanted = refined_masks(refiner, records, 1)
    np.testing.assert_array_equal(np.stack([mask_of(e) for e in content["instances"]]), wanted)
    assert read_predictions(output).images == predictions.images


@pytest.mark.parametrize("form", ["coco", "cityscapes", "demo"])
def test_a_stopped_run_goes_on(tmp_path, refiner, records, form):
    if form == "coco":
        source = write_coco(tmp_path, coco_entries())
    elif form == "cityscapes":
        source = write_cityscapes(tmp_path / "in")
        (source / "scene_9_leftImg8bit_pred.txt").unlink()
    else:
        source = write_demo(tmp_path / "in", records)
    predictions = read_predictions(source)
    files = dict(zip(predictions.images, (r.frames[0].file for r in records), strict=True))

    def run(output, **options):
        return refine_predictions(
            refiner, predictions, output, lambda found: files[found.image], **options
        )

    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"
    run(whole)
    with pytest.raises(Stop):
        run(stopped, progress=stop_after(2))
    with pytest.raises(DataError, match=r"other settings \(iou_threshold 0.25, now 0.55\)"):
        run(stopped, iou_threshold=0.55)
    report = run(stopped)
    assert (report.done, report.before) == (2, 2)
    if form == "coco":
        assert whole.read_bytes() == stopped.read_bytes()
        return
    names = sorted(p.name for p in whole.iterdir())
    assert names == sorted(p.name for p in stopped.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_a_stopped_run_does_not_go_on_with_other_weights(tmp_path, records, packed):
    refiners = [PatchRefiner(quick_network()) for _ in range(3)]
    torch.nn.init.normal_(refiners[2].network.decode_head.conv_seg.weight)
    first, same, other = (refiner.pack() if packed else refiner for refiner in refiners)
    predictions = read_predictions(write_coco(tmp_path, coco_entries()))
    rest = predictions, tmp_path / "refined.json", pictures_in(predictions, records)
    with pytest.raises(Stop):
        refine_predictions(first, *rest, progress=stop_after(1))
    with pytest.raises(DataError, match=r"other settings \(weights '\w{8}', now '\w{8}'\)"):
        refine_predictions(other, *rest)
    assert refine_predictions(same, *rest).before == 1


def test_a_missing_image_stops_none_of_the_others(tmp_path, refiner, records):
    file, output = write_coco(tmp_path, coco_entries()), tmp_path / "refined.json"
    predictions = read_predictions(file)
    gone = records[1].frames[0].file
    hidden = gone.rename(tmp_path / "hidden.png")
    pictures = pictures_in(predictions, records)
    with pytest.raises(DataError, match=r"1 of 4 images cannot be read, first: .*scene_1\.png"):
        refine_predictions(refiner, predictions, output, pictures)
    assert not output.exists()
    kept = tmp_path / "kept.json"
    report = refine_predictions(refiner, predictions, kept, pictures, keep_missing=True)
    assert report.done == 3
    assert len(report.missing) == 1
    masks = [mask_of(e) for e in json.loads(kept.read_text()) if e["image_id"] == 11]
    np.testing.assert_array_equal(masks, coarse(1))
    hidden.rename(gone)
    report = refine_predictions(refiner, predictions, output, pictures)
    assert (report.done, report.before) == (1, 3)


def test_results_never_replace_their_input(tmp_path, refiner, records):
    folder = write_cityscapes(tmp_path / "in")
    file = write_coco(tmp_path, coco_entries())
    for source, output in ((folder, folder), (folder, folder / "out"), (file, file)):
        with pytest.raises(DataError, match="among the predictions"):
            refine_predictions(refiner, read_predictions(source), output, lambda found: None)
    other = tmp_path / "notes.json"
    other.write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        refine_predictions(refiner, read_predictions(file), other, lambda found: None)
    assert other.read_text() == "mine"


def test_predictions_of_another_image_set_raise(tmp_path, records):
    entries = coco_entries()
    entries[3]["image_id"] = 4711
    predictions = read_predictions(write_coco(tmp_path, entries))
    with pytest.raises(DataError, match=r"1 of its 5 images .* first: 4711; that one has 10, 11"):
        pictures_in(predictions, records)


def test_a_mask_of_another_size_raises_and_names_the_image(tmp_path, refiner, records):
    entries = coco_entries()
    rle = encode(np.ones((1, 50, 60), bool))[0]
    entries[2]["segmentation"] = {"size": [50, 60], "counts": rle["counts"].decode()}
    predictions = read_predictions(write_coco(tmp_path, entries))
    pictures = pictures_in(predictions, records)
    with pytest.raises(
        DataError, match=r"image 12: instance 0 .*\(50, 60\), the image is \(90, 110\)"
    ):
        refine_predictions(refiner, predictions, tmp_path / "refined.json", pictures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "entry 1 has a segmentation that is no RLE"),
        ({"segmentation": {"size": [9, 9], "counts": "0"}}, "entry 1 has run lengths that add up"),
        ({"segmentation": {"size": [9], "counts": "0"}}, r"mask of size \[9\]"),
        ({"segmentation": {"size": [9, 9], "counts": [40, 40]}}, "add up to 80"),
        ({"score": "high"}, "entry 1 has score 'high'; expected a number"),
        ({"image_id": None}, "entry 1 has image_id None"),
    ],
)
def test_broken_entries_raise(tmp_path, change, message):
    entries = coco_entries()
    entries[1] |= change
    with pytest.raises(DataError, match=message):
        read_predictions(write_coco(tmp_path, entries))


def test_run_lengths_as_numbers_are_read(tmp_path):
    entries = coco_entries()
    entries[0]["segmentation"] = {"size": list(SIZE), "counts": [0, SIZE[0] * SIZE[1]]}
    predictions = read_predictions(write_coco(tmp_path, entries))
    assert decode(predictions.read(10).masks[0]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [], "annotations": []}', "is an annotation file"),
        ('{"a": 1}', "has dict at the top"),
        ("[1, 2", "not valid JSON at character"),
        ("[1]", "entry 0 is 1; expected an object"),
    ],
)
def test_files_that_are_no_predictions_raise(tmp_path, content, message):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_predictions(file)


def test_folders_that_are_no_predictions_raise(tmp_path):
    with pytest.raises(DataError, match="has no predictions in it"):
        read_predictions(tmp_path)
    with pytest.raises(DataError, match="predictions not found"):
        read_predictions(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mask.png 24", "line 1: is 'mask.png 24'; expected PNG LABEL_ID SCORE"),
        ("mask.png person 0.5", "expected PNG LABEL_ID SCORE"),
        ("mask.png 24 0.5", "mask.png: label image not found"),
    ],
)
def test_broken_lines_raise(tmp_path, line, message):
    (tmp_path / "a_pred.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path).read("a")


def test_category_ids_of_other_data_are_no_hindrance_to_refining(tmp_path, refiner, records):
    entries = coco_entries()
    assert {e["category_id"] for e in entries} == set(METADATA.dataset_ids)
    for entry in entries:
        entry["category_id"] = 1234
    predictions = read_predictions(write_coco(tmp_path, entries))
    output = tmp_path / "refined.json"
    refine_predictions(refiner, predictions, output, pictures_in(predictions, records))
    assert {e["category_id"] for e in json.loads(output.read_text())} == {1234}
