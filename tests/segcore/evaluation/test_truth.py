"""AP of panoptic data sets, against the instances JSON that published numbers use."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import perturbed
import pytest
from fake_task import make_task
from loading import load
from tiny import make_dataset

from segcore import masks
from segcore.build.evaluators import build_evaluators
from segcore.data.catalog import Catalog
from segcore.errors import DataError
from segcore.evaluation.instance import InstanceEvaluator
from segcore.segment_rle import to_rle
from segcore.structures import Result


def own(folder, images="images", panoptic="panoptic", instances="instances"):
    (folder / "own.yaml").write_text(f"""reader: coco_panoptic
names:
  own:
    images: {images}
    annotations: {panoptic}.json
    panoptic: {panoptic}
    instances: {instances}.json
""")
    return [folder / "own.yaml"]


def change(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def whole(record):
    """The objects of a record, as a model would have found them."""
    kept = [s for s in record.frames[0].segments if not s.crowd]
    shapes = [masks.decode(to_rle(s, record.frames[0], record.size)) for s in kept]
    labels = [s.category for s in kept]
    return Result(instances=perturbed.instances(shapes, labels, [1.0] * len(kept)))


def test_classes_are_those_of_the_panoptic_file(tmp_path):
    make_dataset(tmp_path)
    change(tmp_path / "instances.json", lambda c: c["images"].reverse())
    metadata, records = load("own", Path(), own(tmp_path))
    truth = Catalog(Path(), [tmp_path / "own.yaml"]).truth("own")
    assert truth is not None
    for record in records:
        found, things = truth(record), [s for s in record.frames[0].segments if s.category < 2]
        assert found.frames[0].file == record.frames[0].file
        assert [s.category for s in found.frames[0].segments] == [s.category for s in things]
        for ours, theirs in zip(found.frames[0].segments, things, strict=True):
            assert ours.shape == to_rle(theirs, record.frames[0], record.size)
    assert metadata.classes[:2] == ("box", "disc")


def test_images_are_found_by_file_then_by_id(tmp_path):
    make_dataset(tmp_path)
    metadata, records = load("own", Path(), own(tmp_path))

    def renumber(content):
        for entry in content["images"]:
            entry["id"] += 1
        for entry in content["annotations"]:
            entry["image_id"] += 1

    change(tmp_path / "instances.json", renumber)
    truth = Catalog(Path(), [tmp_path / "own.yaml"]).truth("own")
    assert all(truth(r).frames[0].file == r.frames[0].file for r in records)
    change(tmp_path / "instances.json", lambda c: c["images"][0].update(file_name="x.png"))
    truth = Catalog(Path(), [tmp_path / "own.yaml"]).truth("own")
    with pytest.raises(DataError, match=r"instances\.json: does not list .*00\.png \(image 0\)"):
        truth(records[0])
    change(tmp_path / "instances.json", lambda c: c["images"][2].update(height=5))
    change(tmp_path / "instances.json", lambda c: c.update(annotations=[]))
    with pytest.raises(DataError, match=r"image 3 is \(5, 64\).* in the panoptic file \(72, 64\)"):
        Catalog(Path(), [tmp_path / "own.yaml"]).truth("own")(records[2])


def evaluators(folder, caplog):
    caplog.set_level(logging.INFO)
    caplog.clear()
    task = replace(make_task(), makes=("instance",))
    catalog = Catalog(Path(), [folder / "own.yaml"])
    made = build_evaluators(task, catalog, catalog.metadata("own"))
    assert [type(e) for e in made] == [InstanceEvaluator]
    return made[0], catalog.read("own")


def test_what_is_hidden_in_the_png_counts(tmp_path, caplog):
    """An object that the panoptic image lacks: missed by what repeats the panoptic image."""
    make_dataset(tmp_path, 2)

    def one_more(content):
        entry = content["annotations"][0]
        crowd = entry | {"id": 98, "iscrowd": 1, "segmentation": [[0, 0, 60, 0, 60, 60, 0, 60]]}
        square = [[1.0, 50.0, 9.0, 50.0, 9.0, 58.0, 1.0, 58.0]]
        content["annotations"] += [entry | {"id": 99, "segmentation": square}, crowd]

    change(tmp_path / "instances.json", one_more)
    own(tmp_path)
    evaluator, records = evaluators(tmp_path, caplog)
    assert "own: AP is measured against" in caplog.text
    for record in records:
        evaluator.update(whole(evaluator.truth(record)), record)
    assert evaluator.compute()["AP"] == pytest.approx(100)
    assert [crowd for *_, crowd in evaluator.parts[0].truth].count(True) == 1
    evaluator, records = evaluators(tmp_path, caplog)
    for record in records:
        evaluator.update(perturbed.perfect(record, evaluator.metadata), record)
    assert evaluator.compute()["AP"] < 95


def test_without_the_file_it_is_said_what_is_measured(tmp_path, caplog):
    make_dataset(tmp_path, 2)
    own(tmp_path, instances="gone")
    evaluator, records = evaluators(tmp_path, caplog)
    assert evaluator.truth is None
    assert "own: AP is measured against the panoptic PNGs" in caplog.text
    assert "gone.json is not there" in caplog.text
    for record in records:
        evaluator.update(perturbed.perfect(record, evaluator.metadata), record)
    assert evaluator.compute()["AP"] == pytest.approx(100)


def test_catalogue_names_the_files_of_published_numbers():
    for split in ("train", "val"):
        for name in (f"coco_2017_{split}_panoptic", f"coco_2017_{split}_panoptic_with_sem_seg"):
            path = Path(f"/data/coco/annotations/instances_{split}2017.json")
            assert Catalog(Path("/data")).entry(name).source.more["instances"] == path
        path = Path(f"/data/ADEChallengeData2016/ade20k_instance_{split}.json")
        assert (
            Catalog(Path("/data")).entry(f"ade20k_panoptic_{split}").source.more["instances"]
            == path
        )
        for name in (f"cityscapes_fine_panoptic_{split}", f"mapillary_vistas_panoptic_{split}"):
            assert "instances" not in Catalog(Path("/data")).entry(name).source.more


def test_ids_of_ade20k_things_are_known_to_its_panoptic_classes(root):
    things = Catalog(root).metadata("ade20k_instance_val")
    panoptic = Catalog(root).metadata("ade20k_panoptic_val")
    classes = [panoptic.dataset_ids.index(number) for number in things.dataset_ids]
    assert all(panoptic.is_thing[k] for k in classes) and len(classes) == sum(panoptic.is_thing)
    assert (things.classes[0], panoptic.classes[classes[0]]) == ("bed", "bed")


def test_real_instances_are_perfect_against_their_own_file(shared_data, tmp_path):
    folder = shared_data / "coco_panoptic_200"
    catalog = own(
        tmp_path, f"{folder}/images/val2017", f"{folder}/annotations/panoptic_val2017",
        f"{folder}/annotations/instances_val2017",
    )  # fmt: skip
    metadata, records = load("own", Path(), catalog)
    truth = Catalog(Path(), catalog).truth("own")
    assert truth is not None
    evaluator = InstanceEvaluator(metadata, truth=truth)
    for record in records[:10]:
        evaluator.update(whole(truth(record)), record)
    assert evaluator.compute()["AP"] == pytest.approx(100)
