"""Faults of a test set are found before a training begins."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from tiny import make_dataset

from segcore.cli import train
from segcore.data.catalog import Catalog
from segcore.data.check_records import check_records
from segcore.errors import DataError


def remove(folder):
    (folder / "images/07.png").unlink()


def shrink(folder):
    Image.open(folder / "images/07.png").resize((8, 8)).save(folder / "images/07.png")


def cut_panoptic(folder):
    (folder / "panoptic/07.png").write_bytes(b"\x89PNG")


def strange_label(folder):
    labels = np.array(Image.open(folder / "labels/07.png"))
    labels[3, 3] = 77
    Image.fromarray(labels).save(folder / "labels/07.png")


def edit(change):
    def break_it(folder):
        for name in ("instances.json", "panoptic.json"):
            content = json.loads((folder / name).read_text())
            change(content)
            (folder / name).write_text(json.dumps(content))

    return break_it


def strange_category(content):
    last = content["annotations"][-1]
    last.get("segments_info", [last])[-1]["category_id"] = 77


def other_size(content):
    content["images"][-1]["width"] += 1


def nothing(content):
    content["images"], content["annotations"] = [], []


@pytest.mark.parametrize(
    ("name", "break_it", "message"),
    [
        ("tiny_panoptic", remove, r"images/07.png: .*not found"),
        ("tiny_instances", remove, r"images/07.png: .*not found"),
        ("tiny_panoptic", shrink, r"images/07.png: is \(8, 8\) \(height, width\); expected"),
        ("tiny_panoptic", cut_panoptic, r"panoptic/07.png: "),
        ("tiny_semantic", strange_label, r"labels/07.png: .*77"),
        ("tiny_panoptic", edit(strange_category), r"panoptic.json: .*77"),
        ("tiny_instances", edit(strange_category), r"instances.json: .*77"),
        ("tiny_instances", edit(other_size), r"07.png: is .* expected|size"),
        ("tiny_instances", edit(nothing), r"no image"),
    ],
)
def test_a_fault_of_the_last_image_raises(tmp_path, name, break_it, message):
    catalog = Catalog(tmp_path, [make_dataset(tmp_path / "data")])
    check_records(catalog.records(name), catalog.metadata(name), catalog.truth(name))
    break_it(tmp_path / "data")
    catalog = Catalog(tmp_path, [tmp_path / "data/tiny.yaml"])
    with pytest.raises(DataError, match=message):
        check_records(catalog.records(name), catalog.metadata(name), catalog.truth(name))


@pytest.mark.slow
def test_training_raises_it_before_its_first_step(tmp_path):
    catalog = make_dataset(tmp_path / "data")
    for name in ("images", "panoptic"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for file in (tmp_path / "data" / name).iterdir():
            (tmp_path / "val" / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "val/panoptic.json").write_bytes((tmp_path / "data/panoptic.json").read_bytes())
    remove(tmp_path / "val")
    machines = {"num_gpus": 0, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
    name = f"{tmp_path}/val/panoptic.json@{tmp_path}/val/images"
    opts = ["OUTPUT_DIR", str(tmp_path / "run"), "DATASETS.CATALOGS", f"[{catalog}]"]
    opts += ["DATASETS.TEST", f'["{name}"]']
    with pytest.raises(DataError, match=re.escape(f"DATASETS.TEST {name}: ") + ".*07.png"):
        train.main(config_file="tiny/panoptic_tiny.yaml", opts=opts, resume=False, **machines)
    assert not list((tmp_path / "run").glob("*.pth"))
