"""Checkpoints grown to more queries than they have learnt: they learn, resume and predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_task import make_fabric
from tiny_model import metadata_of

from segcore.build.task import build_task
from segcore.cli.train import build_run
from segcore.config import load_config
from segcore.engine.weights import load_into_task
from segcore.structures import Batch, Frame, Record, Sample, Targets

ROOT = Path(__file__).resolve().parents[2]
LEARNED, GROWN = 8, 20
CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
NETWORKS = {"Mask2Former": (1, []), "CropFormer": (3, CROPS)}  # views, options


def run_of(folder, count, options):
    """A run of the tiny network, with averaged weights."""
    given = {"OUTPUT_DIR": folder, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": count,
             "SOLVER.EMA.DECAY": 0.5, "MODEL.DEVICE": "cpu", "LOGGERS": "[]"}  # fmt: skip
    words = [str(word) for pair in given.items() for word in pair]
    cfg = load_config(ROOT / "configs/tiny/panoptic_tiny.yaml", words + options)
    metadata = metadata_of(ROOT, 5)
    torch.manual_seed(count)
    return build_run(cfg, build_task(cfg, metadata), metadata, make_fabric())


def batch_of(number, views, count=GROWN - 2, side=64):
    """A picture of noise with squares in rows and columns, each seen in all views."""
    rng = np.random.default_rng(number)
    pixels = torch.from_numpy(rng.integers(0, 256, (views, 3, side, side), dtype=np.uint8))
    across = int(np.ceil(count**0.5))
    edge = side // across
    masks = torch.zeros(count, views, side, side, dtype=torch.bool)
    for i in range(count):
        y, x = edge * (i // across), edge * (i % across)
        masks[i, :, y : y + edge, x : x + edge] = True
    shown = torch.ones(count, views, dtype=torch.bool)
    targets = Targets(torch.from_numpy(rng.integers(0, 5, count)), masks, shown)
    sizes = torch.full((views, 2), side)
    boxes = torch.tensor([[0, 0, side, side]]).expand(views, 4)
    record = Record(str(number), (side, side), (Frame(Path("none.png")),))
    return Batch.collate([Sample(pixels, sizes, boxes, targets, record)])


def query_rows(task):
    """Learned tensors with one row a query."""
    return [p for name, p in task.model.named_parameters() if name.endswith(task.query_rows)]


def gradients(task, batch):
    """Of these, after the losses of one batch, none of which is infinite or no number."""
    task.model.train().zero_grad()
    outputs = task.model(batch.images, batch.sizes, batch.targets)
    terms = torch.stack(list(task.losses(outputs, batch.targets, batch.counts()).values()))
    assert terms.isfinite().all() and terms.min() >= 0
    terms.sum().backward()
    return [rows.grad.clone() for rows in query_rows(task)]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_grown_queries_learn_and_a_resume_equals_an_unbroken_run(tmp_path, network):
    views, options = NETWORKS[network]
    batches = [batch_of(i, views) for i in range(4)]
    small = run_of(tmp_path / "small", LEARNED, options)
    small.trainer.fit(iter(batches[:2]), 2, [])
    small.save_as("model_final")
    runs = [run_of(tmp_path / name, GROWN, options) for name in ("looked at", "whole", "broken")]
    for run in runs:
        report = load_into_task(run.task, tmp_path / "small/model_final.pth")
        assert set(report.resized.values()) == {f"{LEARNED} -> {GROWN} queries"}
    looked_at, whole, broken = runs
    before = [rows.detach().clone() for rows in query_rows(whole.task)]
    for gradient in gradients(looked_at.task, batches[0]):
        assert (gradient.norm(dim=1) > 0).all()  # whom nothing matches learns to say so
        apart = (gradient[:LEARNED] - gradient[LEARNED : 2 * LEARNED]).norm(dim=1)
        assert (apart > 1e-4 * gradient[:LEARNED].norm(dim=1)).all()
    torch.manual_seed(0)
    whole.trainer.fit(iter(batches), 4, [])
    for rows, start in zip(query_rows(whole.task), before, strict=True):
        assert len(rows) == GROWN and ((rows - start).abs().amax(1) > 0).all()
    averages = whole.trainer.ema.state_dict()
    tables = [value for name, value in averages.items() if name.endswith(whole.task.query_rows)]
    for average, start in zip(tables, before, strict=True):
        assert ((average - start).abs().amax(1) > 0).all()
    torch.manual_seed(0)
    broken.trainer.fit(iter(batches[:2]), 2, [])
    broken.save(2)
    resumed = run_of(tmp_path / "broken", GROWN, options)
    assert resumed.resume()["iteration"] == 2
    resumed.trainer.fit(iter(batches[2:]), 4, [])
    assert_equal(resumed.task.model.state_dict(), whole.task.model.state_dict())
    assert_equal(resumed.trainer.ema.state_dict(), averages)
    (result,) = whole.task.postprocess(
        whole.task.infer(batches[0], torch.device("cpu")), batches[0]
    )
    assert result.instances.scores.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [500, 1500])
def test_as_many_queries_as_objects_in_a_crowd_are_matched_trained_and_predicted(tmp_path, count):
    options = ["TEST.DETECTIONS_PER_IMAGE", str(count)]
    task = run_of(tmp_path, count, options).task
    batch = batch_of(0, 1, count, side=192)
    for gradient in gradients(task, batch):
        assert gradient.isfinite().all() and (gradient.norm(dim=1) > 0).all()
    task.model.eval()
    (result,) = task.postprocess(task.infer(batch, torch.device("cpu")), batch)
    assert len(result.instances.masks) == count
