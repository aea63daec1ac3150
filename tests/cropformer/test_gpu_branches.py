"""What is computed in another way on a GPU equals the CPU's way, on small networks of each kind."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import metadata_of

from cropformer.build import build_crops, crop_losses
from mask2former import criterion as criterion_module
from mask2former.build import build, build_criterion
from mask2former.pixel_decoder import EncoderLayer
from segcore.config import load_config
from segcore.nn.resize import LARGE, SMALL
from segcore.structures import Batch, Frame, Outputs, Record, Targets

SWIN = ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", "12"]
SWIN += ["MODEL.SWIN.DEPTHS", "[1, 2, 2, 1]", "MODEL.SWIN.NUM_HEADS", "[1, 2, 3, 4]"]
HORNET = ["MODEL.BACKBONE.NAME", "D2HorNet", "MODEL.HORNET.BASE_DIM", "16"]
HORNET += ["MODEL.HORNET.DEPTHS", "[1, 1, 2, 1]"]
CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]
CROPS += ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
CROPS += ["ENTITY.FUSE_ENC_DIM_FEEDFORWARD", "32"]
NETWORKS = {
    "R50": ["MODEL.BACKBONE.NAME", "build_resnet_backbone"],
    "Swin": SWIN,
    "HorNet": HORNET,
    "CropFormer": [*SWIN, *CROPS],
    "CropFormer HorNet": [*HORNET, *CROPS],
}
K, CANVAS, INSIDE, SIZE = 5, (64, 96), (60, 90), (90, 135)  # the padded input, the input, the image


@pytest.fixture(params=NETWORKS, scope="module")
def case(request, root):
    """A config, its task, and what a batch is made of: T views."""
    drop = ["MODEL.SWIN.DROP_PATH_RATE", "0.0", "MODEL.HORNET.DROP_PATH_RATE", "0.0"]
    low = ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"]  # an untrained model is not sure
    opts = [*NETWORKS[request.param], *drop, *low]
    cfg = load_config(root / "configs/tiny/panoptic_tiny.yaml", opts)
    crops = cfg.MODEL.META_ARCHITECTURE == "CropFormer"
    torch.manual_seed(0)
    task = (build_crops if crops else build)(cfg, metadata_of(root, K))
    return cfg, task, 3 if crops else 1


def batch_of(T, *counts):
    """Noise; rectangles as segments, as many as asked for of each sample."""
    rng = np.random.default_rng(len(counts))
    targets = []
    for N in counts:
        masks = torch.zeros(N, T, *CANVAS, dtype=torch.bool)
        for mask in masks.flatten(0, 1):
            y, x = rng.integers(0, 30, 2)
            mask[y : y + 25, x : x + 40] = True
        present = torch.ones(N, T, dtype=torch.bool)
        present[1:2] = False  # shows nowhere: takes no part
        targets.append(Targets(torch.arange(N) % K, masks, present))
    images = torch.from_numpy(rng.integers(0, 256, (len(counts), T, 3, *CANVAS), dtype=np.uint8))
    sizes = torch.tensor(INSIDE).expand(len(counts), T, 2)
    (H, W), half = SIZE, SIZE[1] // 2
    boxes = torch.tensor([[0, 0, W, H], [0, 0, half, H], [half, 0, W, H]][:T])
    record = Record("none", SIZE, (Frame(Path("none")),))
    boxes = boxes.expand(len(counts), T, 4)
    return Batch(images, sizes, boxes, targets, [record] * len(counts))


class Draws:
    """Random numbers that are a layer's own, however many layers are drawn at once."""

    def __init__(self):
        self.drawn = Counter()

    def __call__(self, layers, *shape, device):
        first = self.drawn[shape]
        self.drawn[shape] += layers
        seeds = range(first, first + layers)
        draws = [torch.rand(shape, generator=torch.Generator().manual_seed(i)) for i in seeds]
        return torch.stack(draws)


def losses_and_gradients(case, outputs, batch, *, published_order):
    """Of all parameters of the model that have one."""
    cfg, task, T = case
    criterion, draw = build_criterion(cfg), Draws()
    matcher = replace(criterion.matcher, draw=draw)
    criterion = replace(criterion, matcher=matcher, draw=draw, published_order=published_order)
    counts = batch.counts().clamp(min=1)
    if T > 1:
        losses = crop_losses(criterion)(outputs, batch.targets, counts)
    else:
        losses = criterion(outputs.layers, batch.targets, counts[0])
    total = torch.stack(list(losses.values())).sum()
    names, values = zip(*task.model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, values, retain_graph=True, allow_unused=True)
    return losses, dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize(
    ("counts", "budget"), [((3, 2), 1 << 28), ((3, 2), 100_000), ((0, 1), 1 << 28), ((0, 0), 1)]
)
def test_a_step_with_all_layers_at_once_equals_one_by_one(case, counts, budget, monkeypatch):
    monkeypatch.setattr(criterion_module, "BUDGET", budget)
    batch = batch_of(case[2], *counts)
    outputs = case[1].model.train()(batch.images, batch.sizes)
    wanted, slopes = losses_and_gradients(case, outputs, batch, published_order=True)
    found, ours = losses_and_gradients(case, outputs, batch, published_order=False)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert sum(x is not None and bool(x.any()) for x in slopes.values()) > 50
    for name, slope in slopes.items():
        if slope is None:
            assert ours[name] is None
        else:
            assert (ours[name] - slope).abs().max() <= 1e-5 * slope.abs().max(), name


def sharp(layer):
    """An untrained model's prediction, as if it saw several things."""
    logits = layer.logits - layer.logits.mean(1, keepdim=True)
    masks = layer.masks - layer.masks.mean((-2, -1), keepdim=True)
    return replace(layer, logits=3 * logits / logits.std(), masks=4 * masks / masks.std())


def test_an_encoder_of_all_tokens_at_once_equals_parts_of_them(case, monkeypatch):
    """A GPU computes all at once, as a CPU does where gradients are asked for."""
    monkeypatch.setattr(EncoderLayer, "cached_tokens", 50)  # a small input has more than these
    _, task, T = case
    batch = batch_of(T, 0, 0)
    task.model.eval()
    parts = task.infer(batch, torch.device("cpu")).layers[-1]
    whole = task.model(batch.images, batch.sizes, aux=False).layers[-1]
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.masks, whole.masks, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pieces", [LARGE, replace(LARGE, values=3 * SIZE[0] * SIZE[1], waiting=1)])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("case", ["R50", "Swin", "HorNet"], indirect=True)
def test_results_of_large_pieces_equal_those_of_small_ones(case, pieces, late):
    """Entities are painted in one way on all devices."""
    _, task, T = case
    batch = batch_of(T, 0)
    outputs = task.model.eval()(batch.images, batch.sizes, aux=False)
    outputs = Outputs([sharp(outputs.layers[-1])])
    process = replace(task.postprocess, late_resize=late, overlap_threshold=0.1)
    small = replace(SMALL, values=2000)
    (wanted,), (found,) = (replace(process, pieces=x)(outputs, batch) for x in (small, pieces))
    assert len(wanted.semantic.unique()) > 1 and len(wanted.panoptic.segments) > 1
    assert torch.equal(found.semantic, wanted.semantic)
    assert torch.equal(found.panoptic.map, wanted.panoptic.map)
    assert found.panoptic.segments == wanted.panoptic.segments
    ours, theirs = found.instances, wanted.instances
    assert ours.masks == theirs.masks and len({str(x) for x in theirs.masks}) > 3
    assert torch.equal(ours.labels, theirs.labels) and torch.equal(ours.boxes, theirs.boxes)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-6)
