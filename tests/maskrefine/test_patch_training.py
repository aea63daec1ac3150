"""Losses and gradients of the patch network against the published program; training it."""

from functools import partial

import numpy as np
import pytest
import torch
from formulas import PHI, golden_file, key_shapes, weights
from scenes import METADATA, coco_entries, make_records, quick_network
from test_hrnet import coarse, patches
from test_refine_files import write_coco

from maskrefine.hrnet import VARIANTS, PatchNetwork, Variant
from maskrefine.patch_data import PatchViews, fresh_patch, training_patches
from maskrefine.patch_model import PatchSegmenter, losses
from maskrefine.patch_store import patch_records, read_patch, write_patches
from maskrefine.patch_training import (
    PatchEvaluator,
    patch_batches,
    patch_task,
    patch_trainer,
    published_schedule,
    to_official,
    to_ours,
)
from maskrefine.truth import match_instances
from segcore.data.loader import TestLoader
from segcore.data.store import Records
from segcore.engine.evaluate import evaluate
from segcore.engine.launch import launch
from segcore.predictions.read import read_predictions
from segcore.structures import Outputs, Regions, Result, Targets

N, SIDE = 4, 128


def targets(masks):
    return [Targets(torch.zeros(1).long(), m[None, None], torch.ones(1, 1).bool()) for m in masks]


def outputs(logits):
    number = torch.arange(len(logits))
    return Outputs([], regions=Regions(number, torch.zeros(len(logits), 4), number * 0, [logits]))


def counts(number):
    return torch.tensor([float(number)] * 2)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradients_equal(golden, mode):
    """In float64: batch statistics amplify rounding, so that float32's gradients of the stem move
    by 2e-3 with the number of threads, and the record is 1e-3 from these."""
    folder = golden / "refiners"
    settings, _ = golden_file(folder, "bpr_hrnet18s")
    network = PatchNetwork(VARIANTS["hrnet18s"])
    network.load_official(weights(key_shapes(folder, "bpr_hrnet18s")))
    network.train(mode == "train").double()
    logits = network(patches(N, SIDE).double())
    loss = losses(outputs(logits), targets(coarse(N, SIDE, PHI + 0.35)), counts(N))["loss_seg"]
    assert loss.item() == pytest.approx(settings[f"losses_bn_{mode}"]["decode.loss_seg"], rel=1e-5)
    loss.backward()
    sums = {k: p.grad.abs().sum().item() for k, p in network.named_parameters()}
    for name, value in settings[f"grads_bn_{mode}"].items():
        assert sums[name] == pytest.approx(value, rel=2e-3), name
    assert sum(sums.values()) == pytest.approx(settings[f"grads_total_bn_{mode}"], rel=1e-3)
    if mode == "train":
        buffers = dict(network.named_buffers())
        for name, value in settings["running_after_bn_train"].items():
            assert buffers[name].abs().sum().item() == pytest.approx(value, rel=1e-5), name


def test_the_model_sees_what_the_network_is_given(golden):
    torch.manual_seed(0)
    network = PatchNetwork(Variant(32, 4, 1, (1, 1, 1), 1)).eval()
    images = torch.randint(0, 256, (3, 1, 4, 32, 32), dtype=torch.uint8)
    images[:, :, 3] %= 2
    found = PatchSegmenter(network)(images, torch.full((3, 1, 2), 32))
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    colors, signs = (images[:, 0, :3] - mean) / std, 2.0 * images[:, 0, 3:] - 1
    wanted = network(torch.cat((colors, signs), 1))
    torch.testing.assert_close(found.regions.logits[0], wanted)


def test_a_patch_weighs_the_same_on_every_rank():
    logits, truth = torch.randn(6, 2, 8, 8), torch.rand(6, 32, 32) > 0.5
    together = losses(outputs(logits), targets(truth), counts(6))["loss_seg"]
    ranks = [
        losses(outputs(logits[part]), targets(truth[part]), counts(3))["loss_seg"]
        for part in (slice(0, 2), slice(2, 6))  # two patches here, four there
    ]
    torch.testing.assert_close(sum(ranks) / 2, together)


def test_names_of_the_trained_model_are_official_ones_with_a_prefix(golden):
    model = PatchSegmenter(PatchNetwork(VARIANTS["hrnet18s"]))
    shapes = key_shapes(golden / "refiners", "bpr_hrnet18s")
    ours = model.state_dict()
    assert to_official(ours).keys() == shapes.keys()
    assert to_ours(shapes).keys() == ours.keys() == to_ours(ours).keys()


def test_the_rate_falls_as_published():
    rate = published_schedule(160_000)
    assert 0.01 * rate(0) == pytest.approx(0.01)
    assert 0.01 * rate(80_000) == pytest.approx((0.01 - 1e-4) * 0.5**0.9 + 1e-4)
    assert 0.01 * rate(160_000) == pytest.approx(1e-4)


@pytest.fixture
def store(tmp_path):
    records = make_records(tmp_path / "images")
    predictions = read_predictions(write_coco(tmp_path, coco_entries()))
    matched = match_instances(predictions, records, METADATA)
    write_patches(tmp_path / "patches.npy", training_patches(matched, records), 64)
    return tmp_path / "patches.npy"


def test_the_trainer_learns_from_a_store(store):
    """Squares around discs that show in the images."""
    fabric, stored = launch(device="cpu"), Records(patch_records(store))
    task = patch_task(quick_network(), PatchViews(input_size=32))

    def score():
        loader = TestLoader(stored, task.views, batch_size=8)
        return evaluate(task, loader, [PatchEvaluator()], fabric)

    before = score()
    trainer = patch_trainer(task, fabric, steps=12, rate=0.05)
    assert trainer.fit(patch_batches(task, stored, batch_size=4), 12, [])
    after = score()
    assert after["mIoU"] > before["mIoU"] + 5
    assert after["mIoU-coarse"] == before["mIoU-coarse"] > 80


def test_scores_count_all_pixels_of_all_patches(store):
    evaluator, records = PatchEvaluator(), list(patch_records(store))
    matrix = np.zeros((2, 2))
    for record in records:
        patch = read_patch(store, record.id)
        evaluator.update(Result(semantic=torch.from_numpy(patch.truth[0]).to(torch.uint8)), record)
        for t in (0, 1):
            for p in (0, 1):
                matrix[t, p] += ((patch.truth[0] == t) & (patch.coarse[0] == p)).sum()
    iou = [matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]) for k in (0, 1)]
    assert evaluator.compute() == {"mIoU": 100, "mIoU-coarse": pytest.approx(100 * np.mean(iou))}


def test_the_trainer_takes_degraded_truth(tmp_path):
    records = make_records(tmp_path / "images")
    views = PatchViews(input_size=32, patch_of=partial(fresh_patch, iou_threshold=0.15))
    task = patch_task(quick_network(), views)
    trainer = patch_trainer(task, launch(device="cpu"), steps=2)
    assert trainer.fit(patch_batches(task, records, batch_size=2, seed=1), 2, [])
