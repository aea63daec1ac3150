"""Numbers of the published model, by formula-made weights (specification, section 13)."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from golden_weights import fill, golden_image
from prepared_models import needs_onednn

from mask2former.build import build
from mask2former.prepared import PREPARED
from mask2former.semantic import class_scores, late_scores
from mask2former.video_build import build_video
from mask2former.weights import to_official, to_ours
from segcore.config import load_config
from segcore.data.catalog import Catalog
from segcore.masks import area
from segcore.nn.cpu_training import train_on_cpu
from segcore.nn.prepared import prepare
from segcore.nn.resize import Upsampler
from segcore.nn.winograd import has_winograd, use_winograd
from segcore.structures import Batch, Frame, Record, Sample, Targets

ROOT = Path(__file__).resolve().parents[2]
COCO = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
YOUTUBE_VIS = "youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml"
ADE = "ade20k/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k.yaml"


@cache
def task_of(name, *opts):
    cfg = load_config(ROOT / "configs" / name, ["MODEL.WEIGHTS", "", *opts])
    task = build(cfg, Catalog(ROOT).metadata(cfg.DATASETS.TRAIN[0]))
    official = to_official(task.model.state_dict())
    state = task.model.state_dict() | to_ours(fill(official.keys(), official.values()))
    task.model.load_state_dict(state)
    return task


def batch_of(count=1, phis=(0.0,)):
    views = torch.stack([golden_image(phi=phi) for phi in phis])
    sizes = torch.tensor([[90, 120]] * len(phis))
    record = Record("golden", (180, 240), (Frame(Path("golden")),))
    boxes = torch.tensor([[0, 0, 240, 180]] * len(phis))
    return Batch.collate([Sample(views, sizes, boxes, None, record)] * count)


def near(value, wanted, rel=1e-4):
    assert float(value) == pytest.approx(wanted, rel=rel, abs=2e-5)


@cache
def coco_outputs(aux=True):
    batch = batch_of()
    with torch.no_grad():
        return task_of(COCO).model.eval()(batch.images, batch.sizes, aux=aux)


@needs_onednn
@pytest.mark.parametrize("winograd", [True, False])
def test_r50_prepared_for_a_cpu_predicts_the_same(winograd):
    """On a copy: the other tests take the plain model."""
    task, batch = task_of(COCO), batch_of()
    model = prepare(copy.deepcopy(task.model).eval(), torch.float32, PREPARED)
    if winograd:
        assert use_winograd(model) == (14 if has_winograd() else 0)
    with torch.inference_mode():
        check_r50(model(batch.images, batch.sizes))


def test_r50_features_and_predictions():
    check_r50(coco_outputs())


def check_r50(out):
    for feature, mean in zip(out.features, (0.510428, 0.442224, 0.399721, 0.267132), strict=True):
        near(feature.mean(), mean)
    answer = out.layers[-1]
    near(answer.logits.sum(), 1729.8417)
    near(answer.logits.abs().sum(), 9758.5020)
    for value, wanted in zip(
        answer.logits[0, 0], (-1.490235, 0.049538, -0.543493, 0.178448), strict=False
    ):
        near(value, wanted)
    near(answer.masks.sum(), 267627.16)
    near(answer.masks.abs().sum(), 290933.31)
    masks = (411236.94, 318946.50, 464793.69, 186106.91, 284687.06)
    masks += (174549.67, 487119.38, 879898.69, 426129.81)
    logits = (10687.93, 11092.71, 11224.34, 10967.66, 10445.91)
    logits += (9943.55, 9401.21, 9561.23, 11382.30)
    for layer, mask_sum, logit_sum in zip(out.layers, masks, logits, strict=False):
        near(layer.masks.abs().sum(), mask_sum)
        near(layer.logits.abs().sum(), logit_sum)


def test_r50_pyramid():
    with torch.no_grad():
        pyramid, mask_features = task_of(COCO).model.pixel_decoder(coco_outputs().features)
    near(mask_features.mean(), -0.056035)
    near(mask_features.std(), 0.730388)
    wanted = ((-0.157241, -0.126282, -0.590231), (-1.264194, -0.941238, -0.875275))
    wanted += ((-0.380591, -1.061146, -1.680891),)
    for level, values in zip(pyramid, wanted, strict=True):
        for value, number in zip(level[0, 0, 0], values, strict=False):
            near(value, number)


def test_r50_semantic_scores():
    answer = coco_outputs().layers[-1]
    probs, masks = answer.logits[0].softmax(-1), answer.masks[0, :, 0]
    up = Upsampler((96, 128), (90, 120), (180, 240))
    scores = torch.cat(list(class_scores(probs, masks, up)), 1)  # (K, W, H)
    near(scores.sum(dtype=torch.float64), 3754057.876)
    for value, wanted in zip(scores[:, 0, 0], (0.100622, 0.456581, 0.270521), strict=False):
        near(value, wanted)


def test_r50_instances():
    (result,) = task_of(COCO).postprocess(coco_outputs(), batch_of())
    found = result.instances
    assert len(found.masks) == 100 and found.labels[:3].tolist() == [17, 17, 17]
    for value, wanted in zip(found.scores, (0.050700, 0.049494, 0.049426), strict=False):
        near(value, wanted)
    assert abs(int(area(found.masks).sum()) - 3946614) <= 50


def test_short_path_for_inference_equals_the_full_one():
    full, short = coco_outputs().layers[-1], coco_outputs(aux=False).layers
    assert len(short) == 1
    torch.testing.assert_close(short[0].masks, full.masks, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(short[0].logits, full.logits, rtol=1e-3, atol=1e-3)


def test_r50_results():
    (result,) = task_of(COCO).postprocess(coco_outputs(), batch_of())
    assert result.panoptic.segments == []
    found = result.instances
    things = task_of(COCO).postprocess.is_thing
    assert all(things[k] for k in found.labels.tolist())
    low = task_of(COCO, "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.02").postprocess
    (result,) = low(coco_outputs(), batch_of())
    (segment,) = result.panoptic.segments
    assert (segment.id, segment.category, segment.is_thing) == (1, 17, True)
    assert abs(segment.area - 38926) <= 5
    assert abs(int((result.panoptic.map == 0).sum()) - 4274) <= 5
    assert segment.area == int((result.panoptic.map == 1).sum())


def golden_targets(device="cpu"):
    masks = torch.zeros(3, 1, 96, 128, dtype=torch.bool)
    masks[0, 0, 5:40, 10:60] = True
    masks[1, 0, 30:80, 50:110] = True
    masks[2, 0, :20, :120] = True
    return Targets(torch.tensor([3, 17, 90]), masks, torch.ones(3, 1, dtype=torch.bool))


def empty_targets():
    return Targets(
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, 1, 96, 128, dtype=torch.bool),
        torch.zeros(0, 1, dtype=torch.bool),
    )


def losses_of(layers, targets, count):
    torch.manual_seed(0)
    out = coco_outputs()
    if len(targets) == 2:
        with torch.no_grad():
            batch = batch_of(2)
            out = task_of(COCO).model.eval()(batch.images, batch.sizes)
    return task_of(COCO).losses(out, targets, torch.tensor([count, count]))


def test_losses():
    check_losses(losses_of(coco_outputs(), [golden_targets()], 3.0))


@needs_onednn
def test_r50_trained_on_a_cpu_predicts_and_loses_the_same():
    task, batch = task_of(COCO), batch_of()
    model = copy.deepcopy(task.model).eval()
    train_on_cpu(model, task.trained)
    outputs = model(batch.images, batch.sizes)
    check_r50(outputs)
    torch.manual_seed(0)
    check_losses(task.losses(outputs, [golden_targets()], torch.tensor([3.0, 3.0])))


def check_losses(losses):
    wanted = {
        "loss_ce": 9.80691, "loss_mask": 7.35012, "loss_dice": 3.64394,
        "loss_ce_0": 11.03578, "loss_mask_0": 3.95895, "loss_dice_0": 3.49668,
        "loss_ce_8": 9.96675, "loss_mask_8": 12.22288, "loss_dice_8": 3.86198,
    }  # fmt: skip
    for name, value in wanted.items():
        near(losses[name], value)
    assert len(losses) == 30
    near(sum(losses.values()), 242.8503)


def test_losses_without_targets():
    losses = losses_of(coco_outputs(), [empty_targets()], 1.0)
    near(losses["loss_ce"], 10.24401)
    assert losses["loss_mask"] == losses["loss_dice"] == 0


def test_losses_of_a_batch_where_one_image_is_empty():
    losses = losses_of(None, [golden_targets(), empty_targets()], 3.0)
    for name, value in (("loss_ce", 9.99947), ("loss_mask", 7.33009), ("loss_dice", 3.64395)):
        near(losses[name], value)


def test_swin_t_semantic():
    batch = batch_of()
    with torch.no_grad():
        out = task_of(ADE).model.eval()(batch.images, batch.sizes)
    near(out.features[0].mean(), 0.004976, rel=2e-4)
    near(out.features[0].std(), 1.017652)
    for value, wanted in zip(out.features[3][0, 0, 0], (0.098601, 1.149533), strict=False):
        near(value, wanted)
    answer = out.layers[-1]
    near(answer.logits.sum(), -549.6060)
    near(answer.logits.abs().sum(), 12210.7568)
    near(answer.masks.sum(), 112340.20)
    near(answer.masks.abs().sum(), 265875.50)


def test_swin_t_semantic_scores():
    """Semantic-only models sum at the input size and resize afterwards."""
    batch = batch_of()
    with torch.no_grad():
        answer = task_of(ADE).model.eval()(batch.images, batch.sizes).layers[-1]
    probs, masks = answer.logits[0].softmax(-1), answer.masks[0, :, 0]
    up = Upsampler((96, 128), (90, 120), (180, 240))
    scores = torch.cat(list(late_scores(probs, masks, up)), 1)  # (K, W, H)
    near(scores.sum(dtype=torch.float64), 2505728.40)
    for value, wanted in zip(scores[:, 0, 0], (0.085825, 0.242001, 1.835662), strict=False):
        near(value, wanted)


@cache
def video_task():
    """The published video model: T > 1 of the same code, with 40 classes."""
    cfg = load_config(ROOT / "configs" / YOUTUBE_VIS, ["MODEL.WEIGHTS", ""])
    task = build_video(cfg, Catalog(ROOT).metadata(cfg.DATASETS.TRAIN[0]))
    official = to_official(task.model.state_dict())
    task.model.load_state_dict(
        task.model.state_dict() | to_ours(fill(official.keys(), official.values()))
    )
    return task


def test_tracks_of_the_video_model():
    batch = batch_of(phis=(0.0, 0.3, 0.6))
    with torch.no_grad():
        out = video_task().model.eval()(batch.images, batch.sizes)
    found = video_task().postprocess(out, batch)[0].tracks
    assert len(found.masks) == 10 and found.labels[:3].tolist() == [17, 17, 17]
    for value, wanted in zip(found.scores, (0.175987, 0.174194, 0.172940), strict=False):
        near(value, wanted)
    for track, wanted in zip(found.masks, (119572, 117671, 118809), strict=False):
        assert len(track) == 3 and abs(int(area(track).sum()) - wanted) <= 5


def test_losses_of_the_video_model():
    batch = batch_of(phis=(0.0, 0.3))
    masks = torch.zeros(2, 2, 96, 128, dtype=torch.bool)
    masks[0, 0, 5:40, 10:60] = True
    masks[0, 1, 11:46, 10:60] = True
    masks[1, 1, 30:80, 50:110] = True
    target = Targets(torch.tensor([3, 17]), masks, masks.flatten(2).any(2))
    with torch.no_grad():
        out = video_task().model.eval()(batch.images, batch.sizes)
        torch.manual_seed(0)
        losses = video_task().losses(out, [target], torch.tensor([2.0, 3.0]))
    for name, value in (("loss_ce", 6.15714), ("loss_mask", 15.52065), ("loss_dice", 8.08775)):
        near(losses[name], value)
    near(sum(losses.values()), 362.3592)
