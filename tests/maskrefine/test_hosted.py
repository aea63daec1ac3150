"""Mask heads behind a frozen model that has masks already."""

import json

import numpy as np
import pytest
import torch
from test_detector_runs import MACHINES, QUICK, words
from tiny import make_dataset
from torch import nn

from maskrefine.hosted import COARSE, HostedRefiner
from maskrefine.hosted_build import build_hosted
from maskrefine.refinemask import RefineMaskHead
from maskrefine.refinemask_losses import refinemask_losses, semantic_targets
from maskrefine.transfiner import TransfinerHead
from maskrefine.transfiner_losses import transfiner_losses
from segcore import masks as mask_io
from segcore.cli import train
from segcore.config import load_config
from segcore.engine.weights import load_into_task
from segcore.errors import ConfigError
from segcore.predict import Predictor
from segcore.structures import Metadata, Outputs, Prediction, Targets

TINY = "tiny/panoptic_tiny.yaml"
HOSTED = QUICK | {"MODEL.META_ARCHITECTURE": "RefinedMaskFormer"}
HOSTED |= {"MODEL.FPN.OUT_CHANNELS": "32", "MODEL.ROI_MASK_HEAD.CONV_DIM": "32"}
HOSTED |= {"INPUT.DATASET_MAPPER_NAME": "mask_former_instance"}
CLASSES = Metadata("x", ("a", "b"), (0, 1), (True, True), ((0, 0, 0),) * 2)


class Told(nn.Module):
    """A host that has been told the masks: (Q, h, w) logits and (Q, K+1) classes, in any image."""

    def __init__(self, masks, logits):
        super().__init__()
        self.masks, self.logits, self.weight = masks, logits, nn.Parameter(torch.ones(1))

    def forward(self, images, sizes, targets=None, aux=True):
        B, H, W = len(images), *images.shape[-2:]
        torch.manual_seed(0)
        maps = [torch.randn(B, 8, H // s, W // s) * self.weight for s in (4, 8, 16, 32)]
        masks = self.masks[None, :, None].expand(B, -1, -1, -1, -1)
        layer = Prediction(self.logits[None].expand(B, -1, -1), masks)
        return Outputs([layer], features=maps)


class Repeated(nn.Module):
    """A neck that adds a level, and has each channel several times."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, features):
        return [x.repeat(1, self.times, 1, 1) for x in (*features, features[-1])]


def square(y0, y1, x0, x1, size=(32, 32)):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


SHOWN = torch.stack([square(4, 12, 4, 16), square(20, 28, 8, 24), square(0, 0, 0, 0)])  # 32 x 32
LOGITS = torch.tensor([[4.0, 0.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.0, 9.0]])


def refiner(head, dim=8, **options):
    host = Told(SHOWN.float() * 12 - 6, LOGITS)
    options = {"is_thing": (True, True), "limit": 6} | options
    return HostedRefiner(host=host, neck=Repeated(dim // 8), mask_head=head, **options)


def with_head(name):
    """A refiner, the losses of its head, and on how many cells its first logits are."""
    if name == "transfiner":
        return refiner(TransfinerHead(num_classes=2, dim=8, samples=20)), transfiner_losses, 28
    return refiner(RefineMaskHead(num_classes=2, dim=32), 32), refinemask_losses, 14


IMAGES, SIZES = torch.zeros(2, 1, 3, 128, 128, dtype=torch.uint8), torch.full((2, 1, 2), 128)


def targets():
    """The first image has both objects, moved a little; the second another one."""
    masks = torch.stack([square(16, 48, 20, 64, (128, 128)), square(84, 112, 32, 96, (128, 128))])
    far = square(100, 128, 100, 128, (128, 128))[None]
    return [
        Targets(torch.tensor([1, 1]), masks[:, None], torch.ones(2, 1, dtype=torch.bool)),
        Targets(torch.tensor([0]), far[:, None], torch.ones(1, 1, dtype=torch.bool)),
    ]


def test_candidates_are_the_best_masks_with_a_margin():
    model = refiner(nn.Identity())
    answer = model.host(IMAGES, SIZES).layers[-1]
    regions, maps = model.candidates(answer, torch.tensor([[128.0, 128.0], [100.0, 100.0]]))
    assert regions.sample.tolist() == [0] * 4 + [1] * 4
    assert regions.labels.tolist()[:2] == [1, 0]
    assert regions.scores.tolist() == sorted(regions.scores[:4].tolist(), reverse=True) * 2
    assert regions.boxes[0].tolist() == pytest.approx([32 - 6.4, 80 - 3.2, 96 + 6.4, 112 + 3.2])
    assert regions.boxes[4].tolist() == pytest.approx([32 - 6.4, 80 - 3.2, 100, 100])
    assert torch.equal(maps[0] > 0, SHOWN[1])


def test_only_things_are_candidates():
    model = refiner(nn.Identity(), is_thing=(True, False))
    answer = model.host(IMAGES, SIZES).layers[-1]
    regions, _ = model.candidates(answer, torch.full((2, 2), 128.0))
    assert regions.labels.tolist()[0] == 0 and regions.scores.max() < 1


def test_candidates_that_show_an_object_are_trained_as_it():
    model = refiner(nn.Identity(), train_limit=3)
    answer = model.host(IMAGES, SIZES).layers[-1]
    found, maps = model.candidates(answer, torch.full((2, 2), 128.0))
    regions, maps = model.matched(found, maps, targets())
    assert regions.sample.tolist() == [0, 0, 0]  # of four: both masks with both classes
    assert regions.labels.tolist() == [1, 1, 1]
    assert regions.matched[0] == 1 and regions.scores is None
    assert len(maps) == 3


def test_stuff_is_neither_matched_nor_foreground():
    model = refiner(nn.Identity(), is_thing=(True, False))
    (both, _) = targets()  # class 1 each; a candidate shows each of them
    both.labels[0] = 0
    cleared = model.without_stuff([both, both])
    answer = model.host(IMAGES, SIZES).layers[-1]
    candidates = model.candidates(answer, torch.full((2, 2), 128.0))
    assert set(model.matched(*candidates, [both, both])[0].matched.tolist()) == {0, 1}
    assert set(model.matched(*candidates, cleared)[0].matched.tolist()) == {0}
    assert semantic_targets(cleared, (32, 32)).sum((1, 2, 3)).tolist() == [8 * 11, 8 * 11]


@pytest.mark.parametrize("name", ["transfiner", "refinemask"])
def test_heads_learn_behind_a_host_that_does_not(name):
    model, losses, first = with_head(name)
    model.train()
    assert not model.host.training
    outputs = model(IMAGES, SIZES, targets())
    assert outputs.regions.logits[0].shape[-1] == first
    total = sum(losses(outputs.regions, targets()).values())
    total.backward()
    assert torch.isfinite(total)
    assert model.host.weight.grad is None
    learned = [p for p in model.mask_head.parameters() if p.grad is not None]
    assert any(p.grad.abs().sum() > 0 for p in learned)
    empty = [targets()[1]] * 2
    sum(losses(model(IMAGES, SIZES, empty).regions, empty).values()).backward()


@pytest.mark.parametrize("name", ["transfiner", "refinemask"])
def test_coarse_masks_are_the_hosts(name):
    model, _, first = with_head(name)
    with torch.no_grad():
        regions = model.eval()(IMAGES, SIZES).regions
    assert regions.probabilities.shape == (8, 112, 112)
    coarse = regions.logits[0]
    assert coarse.shape == (8, 1, first, first) and first in COARSE
    assert coarse.max() == pytest.approx(6, abs=1e-4) and coarse.min() < -5.9


def config(*more):
    opts = words(HOSTED, *more)
    return load_config(TINY, opts)


def test_official_weights_of_the_host_are_a_start_and_names_come_back():
    task = build_hosted(config("MODEL.ROI_MASK_HEAD.NAME", "TransfinerHead"), CLASSES)
    official = task.official(task.model.state_dict())
    assert task.renames(official).keys() == task.model.state_dict().keys()
    host = {k: v for k, v in official.items() if not k.startswith("refiner.")}
    assert any(k.startswith("sem_seg_head.predictor.") for k in host)
    report = load_into_task(task, {"model": host})
    assert all(not name.startswith("host.") for name in report.reinitialised)
    assert not any(p.requires_grad for p in task.model.host.parameters())


def test_mistakes_raise():
    with pytest.raises(ConfigError, match="a refiner needs objects"):
        build_hosted(config("INPUT.DATASET_MAPPER_NAME", "mask_former_semantic"), CLASSES)
    with pytest.raises(ConfigError, match="expected MaskFormer, CropFormer"):
        build_hosted(config("MODEL.HOSTED.NAME", "Detr"), CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["TransfinerHead", "RefineMaskHead"])
def test_a_head_is_trained_behind_mask2former(tmp_path, head):
    catalog = make_dataset(tmp_path / "data")
    opts = ["DATASETS.CATALOGS", f"[{catalog}]", "MODEL.DEVICE", "cpu", "SEED", "1"]
    run = {"config_file": TINY.replace("panoptic", "instance"), **MACHINES}
    host = [*opts, "OUTPUT_DIR", str(tmp_path / "host"), "SOLVER.MAX_ITER", "120"]
    assert train.main(**run, opts=host, resume=False) == 0
    opts += [*words(HOSTED), "MODEL.ROI_MASK_HEAD.NAME", head]
    more = ["MODEL.WEIGHTS", str(tmp_path / "host/model_final.pth"), "SOLVER.MAX_ITER", "20"]
    out = ["OUTPUT_DIR", str(tmp_path / "refined")]
    assert train.main(**run, opts=[*opts, *more, *out], resume=False) == 0
    metrics = json.loads((tmp_path / "refined/inference/tiny_instances/metrics.json").read_text())
    assert metrics["AP"] > 5, metrics
    weights = tmp_path / "refined/model_final.pth"
    result = Predictor(run["config_file"], weights, opts)(tmp_path / "data/images/00.png")[0]
    instances = result.instances
    assert len(instances.masks)
    assert np.array_equal(instances.boxes.numpy(), mask_io.boxes(instances.masks)), "no margin"
