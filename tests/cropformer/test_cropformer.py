"""CropFormer against the published one, and properties of its parts."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loading import load
from PIL import Image

from cropformer.build import build_crops, build_plain
from cropformer.postprocess import EntityPostProcess
from cropformer.views import CropViews
from cropformer.windows import crop_windows
from mask2former.build import build_criterion
from mask2former.model import Mask2Former
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.evaluation.entity import EntityEvaluator
from segcore.masks import decode
from segcore.nn.layers import sine_code
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Metadata, Prediction, Record, Targets

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
TWO = Metadata("x", ("a", "b"), (0, 1), (True, False), ((0, 0, 0), (1, 1, 1)))
SWIN = ["MODEL.BACKBONE.NAME", "D2SwinTransformer"]
CROPS = ["MODEL.META_ARCHITECTURE", "CropFormer", "ENTITY.ENABLE", "true"]


def value(i, name, shape):
    """The reference's weights: by rank of the sorted name."""
    n = int(np.prod(shape))
    z = np.random.RandomState(7000 + i).standard_normal(n)
    if "sampling_offsets.bias" in name:
        z = 2 * z
    elif "relative_position_bias_table" in name:
        z = 0.5 * z
    elif "query" in name or "level_embed" in name:
        pass
    elif len(shape) > 1:
        z = z / np.sqrt(n / shape[0])
    else:
        z = 1 + 0.1 * z if name.endswith("weight") else 0.05 * z
    return torch.from_numpy(z.astype(np.float32)).reshape(shape)


def golden_state(official):
    return {
        k: value(i, k, tuple(v.shape))
        for i, (k, v) in enumerate(sorted(official.items()))
        if v.dtype.is_floating_point and not k.endswith("empty_weight")
    }


def image(height, width, phi):
    c, y, x = np.mgrid[:3, :height, :width].astype(np.float64)
    pixels = np.floor(127.5 + 127.5 * np.sin(0.09 * y + 0.05 * x * (1 + 0.4 * c) + c + phi))
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))


@pytest.mark.slow
def test_whole_network_and_merge_equal_the_reference():
    """In float64: in float32 one attention bit lies within rounding of its threshold."""
    cfg = load_config(
        None, [*SWIN, *CROPS, "INPUT.MIN_SIZE_TEST", "128", "INPUT.MAX_SIZE_TEST", "256"]
    )
    task = build_crops(cfg, TWO)
    official = task.official(task.model.state_dict())
    assert len(official) == 501
    fusion = [k for k in official if ".make_3d." in k]
    assert len(fusion) == 18
    assert sum(official[k].numel() for k in fusion) == 1578752
    assert official["criterion_2d.empty_weight"].tolist() == pytest.approx([1, 0.1])
    task.model.load_state_dict(task.model.state_dict() | task.renames(golden_state(official)))
    golden = np.load(GOLDEN / "crop_swin_t.npz")
    record = Record("golden", (160, 220), (Frame(Path("golden")),))
    batch = Batch.collate([task.views.test(image(160, 220, 0.4), record)])
    assert batch.images.shape == (1, 5, 3, 128, 192)
    with torch.no_grad():
        out = task.model.eval().double()(batch.images, batch.sizes)
    for layer, wanted, total in zip(
        out.layers, golden["layer_logits_3d"], golden["masks_3d_sum"], strict=True
    ):
        assert np.abs(layer.logits[0].numpy() - wanted).max() < 1e-5
        assert float(layer.masks.abs().sum()) == pytest.approx(float(np.sum(total)), rel=1e-5)
    for i, wanted in zip((0, 9), golden["layer_logits_2d"], strict=True):
        assert np.abs(out.per_view[i].logits.numpy() - wanted).max() < 1e-5
    (result,) = task.postprocess(out, batch)
    order = out.layers[-1].logits[0].softmax(-1)[:, 0].argsort(descending=True, stable=True)
    assert order.tolist() == golden["order"].tolist()
    assert np.abs(result.instances.scores.numpy() - golden["scores"]).max() < 1e-5
    rows = result.panoptic.map.numpy()
    owner = np.where(rows > 0, order.numpy()[rows - 1], -1)
    assert (owner != golden["owner"]).sum() <= 2
    areas = {s.id - 1: s.area for s in result.panoptic.segments}
    assert [areas.get(i, 0) for i in range(100)] == golden["areas"].tolist()


@pytest.mark.slow
def test_mask2former_with_hornet_equals_the_reference():
    """Every feature map, the answers of all queries, and the entities left by the painter."""
    golden = np.load(GOLDEN / "hornet.npz")
    path = ROOT / "configs/entityv2/entity_segmentation/mask2former_hornet_3x.yaml"
    cfg = load_config(path, ["INPUT.MIN_SIZE_TEST", "0"])
    task = build_plain(cfg, TWO)
    official = task.official(task.model.state_dict())
    assert sum(k.startswith("backbone.") for k in official) == 644
    state = task.model.state_dict() | task.renames(golden_state(official))
    task.model.load_state_dict(state, assign=True)
    pixels, record = image(96, 128, 0.4), Record("golden", (96, 128), (Frame(Path("golden")),))
    batch = Batch.collate([task.views.test(pixels, record)])
    assert np.array_equal(batch.images[0, 0].numpy(), pixels.transpose(2, 0, 1))
    with torch.no_grad():
        out = task.model.eval()(batch.images, batch.sizes)
        stats = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
        mean, std = (torch.tensor(values)[:, None, None] for values in stats)
        maps = task.model.backbone((batch.images[:, 0] - mean) / std)
    for name, found in zip(("res2", "res3", "res4", "res5"), maps, strict=True):
        size = float(golden[f"{name}_absmean"])
        assert float(found.abs().mean()) == pytest.approx(size, rel=1e-5)
        for key, values in (("first", found.flatten()[:64]), ("last", found.flatten()[-64:])):
            assert np.abs(values.numpy() - golden[f"{name}_{key}"]).max() < 2e-5 * size, (name, key)
        assert np.abs(found[0, :, 0, 0].numpy() - golden[f"{name}_pixel00"]).max() < 2e-5 * size
    sums = golden["layer_logits_abssum"], golden["layer_masks_abssum"]
    for layer, logits, total in zip(out.layers, *sums, strict=True):
        assert float(layer.logits.double().abs().sum()) == pytest.approx(logits, rel=1e-5)
        assert float(layer.masks.double().abs().sum()) == pytest.approx(total, rel=1e-5)
    assert np.abs(out.layers[-1].logits.numpy() - golden["logits"]).max() < 1e-5
    (result,) = task.postprocess(out, batch)
    assert np.abs(result.instances.scores.numpy() - golden["scores"]).max() < 1e-5
    areas = {s.id - 1: s.area for s in result.panoptic.segments}
    assert [areas.get(i, 0) for i in range(100)] == golden["areas"].tolist()
    masks = np.stack([decode(m) for m in result.instances.masks])
    bits = np.unpackbits(golden["masks_bits"], axis=1)[:, : 96 * 128].reshape(100, 96, 128)
    assert np.array_equal(masks, bits)


ENTITY_CONFIGS = {  # tensors in the file, of them parameters
    "cropformer_swin_tiny_3x": (501, 48980092),
    "mask2former_swin_tiny_3x": (482, 47401340),
    "cropformer_swin_large_3x": (669, 216826198),
    "mask2former_swin_large_3x": (650, 215247446),
    "cropformer_hornet_3x": (956, 222151746),
    "mask2former_hornet_3x": (937, 220572994),
    "mask2former_hornet_3x_lr": (937, 220572994),
}


@pytest.mark.parametrize("name", ENTITY_CONFIGS)
def test_names_of_the_published_networks(name):
    cfg = load_config(ROOT / f"configs/entityv2/entity_segmentation/{name}.yaml")
    with torch.device("meta"):
        task = build_task(cfg, TWO)
    state = task.model.state_dict()
    official = task.official(state)
    trained = sum(p.numel() for p in task.model.parameters())
    assert (len(official), trained) == ENTITY_CONFIGS[name]
    assert task.renames(official).keys() == state.keys()


def test_criteria_equal_the_reference():
    """60 terms from outputs by formula; the sharpest check of matching and losses."""
    golden = json.loads((GOLDEN / "crop_criterion.json").read_text())
    l, b, q, t = np.ogrid[:10, :2, :100, :2]  # noqa: E741
    y, x = np.ogrid[:32, :32]
    wave = 0.05 + 0.013 * (np.arange(100) % 11), 0.04 + 0.017 * (np.arange(100) % 7)
    at = (wave[0][:, None, None] * y + wave[1][:, None, None] * x)[None, None, :, None]
    phase = (0.9 * q + 0.5 * t + 0.3 * l + 1.1 * b)[..., None, None]
    masks_3d = 5 * np.sin(at + phase)
    k = np.arange(2)
    logits_3d = 2 * np.sin(
        1.7 * q[..., 0, None] + 2.3 * k + 0.6 * b[..., 0, None] + 0.4 * l[..., 0, None]
    )
    l4, v, q4 = np.ogrid[:10, :4, :100]
    phase = (0.9 * q4 + 0.7 * v + 0.3 * l4 + 0.2)[..., None, None]
    masks_2d = 5 * np.sin(at[:, :, :, 0] + phase)
    logits_2d = 2 * np.sin(1.7 * q4[..., None] + 2.3 * k + (0.6 * v + 0.4 * l4 + 0.1)[..., None])

    def layers(logits, masks):
        pairs = zip(torch.from_numpy(logits).float(), torch.from_numpy(masks).float(), strict=True)
        return [Prediction(a, m if m.dim() == 5 else m[:, :, None]) for a, m in pairs]

    targets = []
    for sample in golden["rects"]:
        masks = torch.zeros(3, 2, 128, 128, dtype=torch.bool)
        for view, name in enumerate(("full", "crop")):
            for n, box in enumerate(sample[name]):
                if box:
                    masks[n, view, box[0] : box[1], box[2] : box[3]] = True
        targets.append(Targets(torch.zeros(3, dtype=torch.long), masks, masks.flatten(2).any(2)))
    criterion = build_criterion(load_config())
    torch.manual_seed(0)
    stills = [view for target in targets for view in target.per_view()]
    alone = criterion(layers(logits_2d, masks_2d), stills, 10.0)
    joint = criterion(layers(logits_3d, masks_3d), targets, 6.0)
    found = {f"{n}_2d": 0.5 * x for n, x in alone.items()}
    found |= {f"{n}_3d": x for n, x in joint.items()}
    assert found.keys() == golden["losses_weighted"].keys()
    for name, wanted in golden["losses_weighted"].items():
        assert float(found[name]) == pytest.approx(wanted, rel=1e-4, abs=1e-5), name
    assert float(sum(found.values())) == pytest.approx(golden["total"], rel=1e-5)


def test_windows():
    assert crop_windows((1000, 1500)) == [
        (0, 0, 1050, 700), (450, 0, 1500, 700), (0, 300, 1050, 1000), (450, 300, 1500, 1000),
    ]  # fmt: skip
    assert crop_windows((90, 90))[0] == (0, 0, 62, 62)  # .7 * 90 is 62.99...
    for size in ((2, 2), (4, 900), (900, 4), (1, 1), (3, 3), (170, 180)):
        windows = crop_windows(size)
        assert all(
            0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0] for x0, y0, x1, y1 in windows
        )
        covered = np.zeros(size, bool)
        for x0, y0, x1, y1 in windows:
            covered[y0:y1, x0:x1] = True
        assert covered.all() or min(size) <= 3


def test_codes_of_the_views():
    wanted = {
        2: [[2e-6, -1, 0.21639, -0.976307], [-3e-6, 1, -0.422527, 0.90635]],
        5: [[0.951056, 0.309017, 0.920513, 0.390712], [0.587786, -0.809017, 0.719311, -0.694688]],
    }
    for views, rows in wanted.items():
        code = sine_code(views, 256, torch.device("cpu"))
        assert np.abs(code[: len(rows), :4].numpy() - np.array(rows)).max() < 5e-6


def tiny_task(*opts):
    path = ROOT / "configs/tiny/panoptic_tiny.yaml"
    fuse = ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "ENTITY.FUSE_ENC_NHEADS", "4"]
    fuse += ["ENTITY.FUSE_ENC_DIM_FEEDFORWARD", "32", "INPUT.MIN_SIZE_TEST", "64"]
    torch.manual_seed(0)
    return build_crops(load_config(path, [*CROPS, *fuse, *opts]), TWO)


def batch_of(task, *sizes):
    samples = []
    for i, size in enumerate(sizes):
        record = Record(i, size, (Frame(Path(str(i))),))
        samples.append(task.views.test(image(*size, 0.3 + i), record))
    return Batch.collate(samples)


def test_first_pass_is_mask2former_on_stills():
    task = tiny_task()
    plain = Mask2Former(
        backbone=task.model.backbone,
        pixel_decoder=task.model.pixel_decoder,
        decoder=task.model.decoder.decoder,
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    ).eval()
    batch = batch_of(task, (60, 90))
    with torch.no_grad():
        out = task.model.eval()(batch.images, batch.sizes)
        for view in range(5):
            images, sizes = batch.images[:, view : view + 1], batch.sizes[:, view : view + 1]
            single = plain(images, sizes).layers
            for ours, theirs in zip(out.per_view, single, strict=True):
                torch.testing.assert_close(ours.masks[view : view + 1], theirs.masks)


def test_two_images_at_once_equal_one_by_one():
    task = tiny_task()
    task.model.eval()
    both = batch_of(task, (60, 90), (90, 60))
    with torch.no_grad():
        together = task.model(both.images, both.sizes)
        for i in range(2):
            alone = task.model(both.images[i : i + 1], both.sizes[i : i + 1])
            for a, b in zip(together.layers, alone.layers, strict=True):
                torch.testing.assert_close(a.masks[i : i + 1], b.masks, rtol=1e-3, atol=1e-4)


def test_crops_without_their_codes_are_another_matter():
    """Permuting the crops alone changes the answer: the codes tell the views apart."""
    task = tiny_task()
    batch = batch_of(task, (60, 90))
    order = [0, 2, 1, 4, 3]
    with torch.no_grad():
        task.model.eval()
        a = task.model(batch.images, batch.sizes).layers[-1]
        b = task.model(batch.images[:, order], batch.sizes[:, order]).layers[-1]
    assert not torch.allclose(a.logits, b.logits, atol=1e-6)


@pytest.mark.parametrize("crops", [0, 1, 4])
@pytest.mark.parametrize("size", [(40, 60), (5, 200), (200, 6), (1, 1), (33, 32)])
def test_any_size_and_number_of_crops(crops, size):
    task = tiny_task("ENTITY.CROP_SAMPLE_NUM_TEST", str(crops))
    batch = batch_of(task, size)
    with torch.no_grad():
        (result,) = task.postprocess(task.model.eval()(batch.images, batch.sizes), batch)
    assert result.panoptic.map.shape == size
    assert len(result.instances.masks) == 8


def test_windows_have_the_cap_of_training_at_test_time_too(tmp_path, shared_data):
    """As the published mapper has it, in evaluation and in Predictor; a held-out photograph."""
    path = shared_data / "coco_panoptic_200/annotations/panoptic_val2017.json"
    record = load(str(path))[1][7]
    photo = Image.open(record.frames[0].file).convert("RGB")
    wide = photo.resize((900, 120))
    wide.save(tmp_path / "wide.png")
    caps = ["INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "128", "INPUT.MAX_SIZE_TRAIN"]
    narrow = ["ENTITY.FUSE_ENC_HIDDIEN_DIM", "32", "MODEL.DEVICE", "cpu"]
    small = ["tiny/panoptic_tiny.yaml", "", [*CROPS, *caps, "256", *narrow]]
    predictor = Predictor(*small)
    in_evaluation = predictor.task.views(
        Record(1, (120, 900), (Frame(tmp_path / "wide.png"),)), rng=None
    )
    for sample in (in_evaluation, predictor.sample(tmp_path / "wide.png")):
        # (84, 630) -> (34.13, 256), rounded; with the other cap it would be (17, 128)
        assert sample.sizes.tolist() == [[17, 128], *[[34, 256]] * 4]
        wanted = wide.crop((0, 0, 630, 84)).resize((256, 34), Image.Resampling.BILINEAR)
        window = sample.views[1, :, :34].permute(1, 2, 0).numpy()
        assert np.array_equal(window, np.asarray(wanted))


def test_training_on_objects_that_show_in_one_view_or_none(tmp_path, shared_data):
    path = shared_data / "coco_panoptic_200/annotations/panoptic_val2017.json"
    metadata, records = load(str(path))
    views = CropViews(
        metadata=metadata, sizes=(96,), max_size=160, min_size_test=96, max_size_test=160
    )
    task = tiny_task()
    samples = [views(r, np.random.default_rng(i)) for i, r in enumerate(records[:2])]
    samples[1] = replace(samples[1], targets=empty(samples[1].targets))
    batch = Batch.collate(samples)
    assert not batch.targets[0].present.all()
    out = task.model.train()(batch.images, batch.sizes)
    losses = task.losses(out, batch.targets, batch.counts().clamp(min=1))
    assert len(losses) == 2 * 3 * 3
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    evaluator = EntityEvaluator(metadata)
    test = Batch.collate([views(records[0], None)])
    with torch.no_grad():
        found = task.postprocess(task.model.eval()(test.images, test.sizes), test)
    evaluator.update(found[0], records[0])
    assert {"APe", "APe50", "covered"} <= evaluator.compute().keys()


def empty(targets):
    return Targets(targets.labels[:0], targets.masks[:0], targets.present[:0])


def test_no_file_of_mask2former_knows_of_crops():
    for path in (ROOT / "mask2former").glob("*.py"):
        text = re.sub(r"RandomCrop\w*|FixedSizeCrop|INPUT\.CROP|CROP\.|cfg\.INPUT\.CROP|crop\.\w+",
                      "", path.read_text())  # fmt: skip
        assert "CropFormer" not in text
        assert "crop_windows" not in text
    assert EntityPostProcess.__doc__
