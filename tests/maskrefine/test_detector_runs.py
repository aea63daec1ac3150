"""Detectors and the patch network from their configs through the house's trainer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import METADATA, coco_entries, make_records
from test_refine_files import write_coco
from tiny import make_dataset

from maskrefine.patch_data import training_patches
from maskrefine.patch_store import write_patches
from maskrefine.refine_files import read_predictions
from maskrefine.truth import match_instances
from segcore.build import solver
from segcore.build.data import catalog, train_batches, train_metadata
from segcore.build.task import build_task
from segcore.cli import evaluate, train
from segcore.config import load_config
from segcore.engine.launch import launch
from segcore.engine.trainer import Trainer
from segcore.errors import DataError
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Record

HEADS = ["MaskRCNNConvUpsampleHead", "TransfinerHead", "RefineMaskHead", "SimpleRefineMaskHead"]
# the pixels of a mask head at most, and few of them: seconds on a CPU
QUICK = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TRANSFINER.TRAIN_LIMIT": "4",
    "MODEL.TRANSFINER.TEST_LIMIT": "4",
    "MODEL.TRANSFINER.SAMPLES": "20",
    "MODEL.TRANSFINER.DROPOUT": "0.0",
}
SMALL = QUICK | {
    "MODEL.BACKBONE.NAME": "outside.networks:build_backbone",
    "INPUT.MIN_SIZE_TRAIN": "96",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "16",
}
MACHINES = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": ""}
PATCHES = {
    "MODEL.META_ARCHITECTURE": "EncoderDecoderRefine",
    "MODEL.DEVICE": "cpu",
    "MODEL.BPR.INPUT_SIZE": "32",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.BASE_LR": "0.02",
    "SEED": "1",
}


def words(options, *more):
    return [word for pair in options.items() for word in pair if pair[1]] + list(more)


def config(data, *more, options=SMALL):
    named = {k: v for k, v in options.items() if v} | {"DATASETS.TRAIN": f"[{data}]"}
    return load_config("tiny/detector_tiny.yaml", words(named, *more))


def trained(cfg, steps, collected, precision="fp32"):
    """A task after some steps; its losses are collected."""
    torch.manual_seed(0)
    sets, fabric = catalog(cfg), launch(device="cpu", precision=precision)
    task = build_task(cfg, train_metadata(cfg, sets))

    def losses(*given):
        found = task.losses(*given)
        collected.append({name: float(value.detach()) for name, value in found.items()})
        return found

    spied = task.__class__(**{f: getattr(task, f) for f in task.__slots__} | {"losses": losses})
    trainer = Trainer(
        spied, *solver.build_optimizer(cfg, task), fabric, clipping=solver.clipping(cfg)
    )
    trainer.fit(train_batches(cfg, task, sets, fabric), steps, [])
    return task


@pytest.mark.parametrize("head", HEADS)
def test_losses_fall_on_polygons_of_photographs(shared_data, head):
    data = shared_data / "coco_polygons_mini" / "instances.json"
    seen = []
    trained(config(data, "MODEL.ROI_MASK_HEAD.NAME", head, "SOLVER.IMS_PER_BATCH", "2"), 12, seen)
    totals = [sum(each.values()) for each in seen]
    assert np.isfinite(totals).all()
    assert np.mean(totals[-4:]) < 0.9 * np.mean(totals[:2]), totals


def test_mixed_precision_trains_on_polygons(shared_data):
    data, seen = shared_data / "coco_polygons_mini" / "instances.json", []
    trained(config(data, "SOLVER.IMS_PER_BATCH", "2"), 2, seen, "bf16")
    assert np.isfinite([sum(each.values()) for each in seen]).all()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make_dataset(folder / "data")
    return folder


def batch_of(home, head, *more):
    """A detector, and a batch of which every second image has no object."""
    opts = ["DATASETS.CATALOGS", f"[{home / 'data' / 'tiny.yaml'}]", *more]
    cfg = config("tiny_instances", *opts, "MODEL.ROI_MASK_HEAD.NAME", head)
    sets = catalog(cfg)
    task = build_task(cfg, train_metadata(cfg, sets))
    records = list(sets.read("tiny_instances"))[:2]
    empty = Record(99, records[1].size, (Frame(records[1].frames[0].file),))
    rng = np.random.default_rng(0)
    samples = [task.views(r, rng) for r in (records[0], empty)]
    return task, Batch.collate(samples)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_half_precision_and_images_without_objects_train(home, head, mask_format):
    task, batch = batch_of(home, head, "INPUT.MASK_FORMAT", mask_format)
    assert [len(t.labels) for t in batch.targets] == [2, 0]
    for targets in (batch.targets, [batch.targets[1]] * 2):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = task.model.train()(batch.images, batch.sizes, targets)
            losses = task.losses(outputs, targets, batch.counts())
        total = sum(losses.values())
        total.backward()
        assert torch.isfinite(total)


@pytest.mark.parametrize("head", HEADS)
def test_nothing_above_the_threshold_gives_no_instance(home, head):
    task, batch = batch_of(home, head, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.0")
    batch = Batch(batch.images, batch.sizes, batch.boxes, records=batch.records)
    outputs = task.infer(batch, torch.device("cpu"))
    assert [len(r.instances.masks) for r in task.postprocess(outputs, batch)] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_detector_trains_resumes_is_evaluated_and_predicts(home, head):
    opts = ["DATASETS.CATALOGS", f"[{home / 'data' / 'tiny.yaml'}]", *words(QUICK)]
    opts += ["SEED", "1", "MODEL.ROI_MASK_HEAD.NAME", head, "SOLVER.MAX_ITER", "12"]
    run = {"config_file": "tiny/detector_tiny.yaml", **MACHINES}
    whole, parts = home / f"{head}-whole", home / f"{head}-parts"
    assert train.main(**run, opts=[*opts, "OUTPUT_DIR", str(whole)], resume=False) == 0
    halves = [*opts, "OUTPUT_DIR", str(parts), "SOLVER.CHECKPOINT_PERIOD", "5"]
    assert train.main(**run, opts=halves, resume=False) == 0
    (parts / "model_final.pth").unlink()
    (parts / "last_checkpoint").write_text("model_0000004.pth")
    assert train.main(**run, opts=halves, resume=True) == 0
    one, other = (
        torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (whole, parts)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    metrics = json.loads((whole / "inference/tiny_instances/metrics.json").read_text())
    weights = str(whole / "model_final.pth")
    again = [*opts, "OUTPUT_DIR", str(home / f"{head}-eval"), "MODEL.WEIGHTS", weights]
    assert evaluate.main(**run, opts=again, resume=False) == 0
    file = home / f"{head}-eval/inference/tiny_instances/metrics.json"
    assert json.loads(file.read_text()) == pytest.approx(metrics, nan_ok=True)
    image = home / "data" / "images" / "00.png"
    result = Predictor("tiny/detector_tiny.yaml", weights, opts)(image)[0]
    assert all(tuple(rle["size"]) == (72, 64) for rle in result.instances.masks)


@pytest.mark.slow
def test_a_detector_learns_drawn_objects_by_heart(home):
    folder = home / "heart"
    opts = ["DATASETS.CATALOGS", f"[{home / 'data' / 'tiny.yaml'}]", "SEED", "1"]
    opts += ["OUTPUT_DIR", str(folder), "MODEL.DEVICE", "cpu"]
    run = {"config_file": "tiny/detector_tiny.yaml", **MACHINES}
    assert train.main(**run, opts=opts, resume=False) == 0
    metrics = json.loads((folder / "inference/tiny_instances/metrics.json").read_text())
    assert metrics["AP"] > 90 and metrics["boundary AP"] > 60, metrics


@pytest.fixture
def scenes(tmp_path):
    """An annotation file of discs with their images, predictions of them, and a store."""
    records = make_records(tmp_path / "images")
    names = zip(METADATA.dataset_ids, METADATA.classes, strict=True)
    content = {
        "categories": [{"id": i, "name": n} for i, n in names],
        "images": [],
        "annotations": [],
    }
    for record in records:
        h, w = record.size
        name = record.frames[0].file.name
        content["images"].append({"id": record.id, "file_name": name, "height": h, "width": w})
        for s in record.frames[0].segments:
            rle = {"size": s.shape["size"], "counts": s.shape["counts"].decode()}
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": record.id, "iscrowd": 0, "area": 9,
                 "category_id": METADATA.dataset_ids[s.category], "segmentation": rle}
            )  # fmt: skip
    (tmp_path / "instances.json").write_text(json.dumps(content))
    predictions = read_predictions(write_coco(tmp_path, coco_entries()))
    matched = match_instances(predictions, records, METADATA)
    write_patches(tmp_path / "patches.npy", training_patches(matched, records), 64)
    return tmp_path


def patches_config(data, *more):
    return load_config(None, words(PATCHES | {"DATASETS.TRAIN": f"[{data}]"}, *more))


@pytest.mark.parametrize("source", ["truth", "predictions", "store"])
def test_the_patch_network_learns_from_every_source(scenes, source):
    store = f"maskrefine.patch_store:FORMAT={scenes / 'patches.npy'}"
    opts = (
        ["MODEL.BPR.PREDICTIONS", str(scenes / "results.json")] if source == "predictions" else []
    )
    cfg = patches_config(store if source == "store" else scenes / "instances.json", *opts)
    seen = []
    task = trained(cfg, 3, seen)
    assert len(seen) == 3 and np.isfinite([each["loss_seg"] for each in seen]).all()
    assert task.metadata.classes == ("background", "foreground")


def test_predictions_of_another_set_raise_before_training(scenes):
    entries = [entry | {"image_id": entry["image_id"] + 1} for entry in coco_entries()]
    (scenes / "others.json").write_text(json.dumps(entries))
    cfg = patches_config(
        scenes / "instances.json", "MODEL.BPR.PREDICTIONS", str(scenes / "others.json")
    )
    with pytest.raises(DataError, match="not among the 4 of the data set, first: 14"):
        build_task(cfg)


@pytest.mark.slow
def test_the_patch_network_is_scored_on_a_store(scenes):
    store = f"maskrefine.patch_store:FORMAT={scenes / 'patches.npy'}"
    folder = scenes / "out"
    more = {"DATASETS.TRAIN": f"[{store}]", "DATASETS.TEST": f"[{store}]", "SOLVER.MAX_ITER": "12"}
    opts = words(PATCHES | more | {"OUTPUT_DIR": str(folder)})
    assert train.main(config_file=None, opts=opts, resume=False, **MACHINES) == 0
    (file,) = (folder / "inference").rglob("metrics.json")
    metrics = json.loads(Path(file).read_text())
    assert metrics["mIoU"] > 20 and metrics["mIoU-coarse"] > 80
