"""Every number recorded of the published detectors at test time."""

from functools import cache

import numpy as np
import pytest
import torch
from golden_hosts import HOSTS, batch, facts, model_of, pyramid_of, regions_of

from maskrefine.paste import paste
from maskrefine.postprocess import at_size
from maskrefine.regions import pool, pyramid_levels
from segcore import masks as mask_io
from segcore.structures import Regions

pytestmark = [pytest.mark.usefixtures("golden"), pytest.mark.slow]
BATCHES = {"batch": ("A", "B"), "single": ("C",)}
WITH_MASKS = ("d2_r50", "d2_r50_deform")
each_host = pytest.mark.parametrize("host", HOSTS)
each_batch = pytest.mark.parametrize("name", BATCHES)


def close(value, wanted, rel=1e-4):
    """Equal but for `rel` of the largest recorded number."""
    value = np.asarray(value, np.float64)
    assert value.shape == wanted.shape
    error, largest = np.abs(value - wanted).max(initial=0), np.abs(wanted).max(initial=0)
    assert error <= rel * largest, f"off by {error} of {largest}"


def same_map(host, name, x, sums, sample):
    """A map's recorded sums of absolute values (groups of channels) and cells."""
    arrays = facts(host)[1]
    total = x.double().abs().sum((2, 3)).unflatten(1, (sums, -1)).sum(-1)
    close(total, arrays[f"{name}_abssum"])
    close(sample, arrays[f"{name}_sample"])


@each_host
@each_batch
def test_features_equal_the_published(host, name):
    stages, pyramid, _ = pyramid_of(host, BATCHES[name])
    levels = [f"res{i}" for i in range(2, 6)] + [f"p{i}" for i in range(2, 7)]
    for level, x in zip(levels, [*stages, *pyramid], strict=True):
        step = max(1, x.shape[2] // 5)
        same_map(host, f"{name}_{level}", x, 16, x[:, 3 :: x.shape[1] // 8, ::step, ::step])


@each_host
@each_batch
def test_anchor_scores_equal_the_published(host, name):
    _, pyramid, _ = pyramid_of(host, BATCHES[name])
    with torch.no_grad():
        said = model_of(host).rpn(pyramid)
    for i, x in enumerate(pyramid):
        h, w = x.shape[-2:]
        logits = said.logits[i].reshape(-1, h, w, 3).permute(0, 3, 1, 2)
        deltas = said.deltas[i].reshape(-1, h, w, 12).permute(0, 3, 1, 2)
        step = max(1, h // 6)
        same_map(host, f"{name}_rpn_logits_p{i + 2}", logits, 3, logits[:, :, ::step, ::step])
        step = max(1, h // 4)
        same_map(host, f"{name}_rpn_deltas_p{i + 2}", deltas, 12, deltas[:, :, ::step, ::step])


@each_host
def test_given_boxes_equal_the_published(host):
    settings, arrays = facts(host)
    model, features = model_of(host), pyramid_of(host, ("C",))[1][:4]
    classes = settings["fixed"].get("classes", [0] * 7)
    regions = regions_of(settings["fixed"]["boxes"], classes)
    level = pyramid_levels(regions.boxes, **model.rpn.numerics.levels)
    assert level.tolist() == [0, 0, 1, 2, 3, 0, 0]
    with torch.no_grad():
        x = pool(features, regions.sample, regions.boxes, 7, level=level)
        logits, deltas = model.box_head(features, regions)
    close(x.double().abs().flatten(1).unflatten(1, (16, -1)).sum(-1), arrays["fixed_pool7_abssum"])
    close(x[:, 5::64], arrays["fixed_pool7_sample"])
    close(logits, arrays["fixed_cls_logits"])
    close(deltas.flatten(1), arrays["fixed_deltas"])


@pytest.mark.parametrize("host", WITH_MASKS)
def test_masks_of_given_boxes_equal_the_published(host):
    settings, arrays = facts(host)
    model, features = model_of(host), pyramid_of(host, ("C",))[1][:4]
    regions = regions_of(settings["fixed"]["boxes"], settings["fixed"]["classes"])
    with torch.no_grad():
        x = pool(features, regions.sample, regions.boxes, 14, level=pyramid_levels(regions.boxes))
        logits = model.mask_head.all_classes(features, regions)
        masks = model.mask_head(features, regions).probabilities
    sums = x.double().abs().flatten(1).unflatten(1, (16, -1)).sum(-1)
    close(sums, arrays["fixed_pool14_abssum"])
    close(logits.double().abs().sum((2, 3)), arrays["fixed_mask_logits_abssum"])
    close(masks, arrays["fixed_mask28"])


@cache
def answers(host, name):
    """Proposals and detections of a recorded batch."""
    model, (images, sizes) = model_of(host), batch(host, BATCHES[name])
    with torch.no_grad():
        said = model.rpn(pyramid_of(host, BATCHES[name])[1])
        proposed = model.rpn.choose(said, sizes[:, 0].float(), training=False)
        return proposed, model(images, sizes)


def detections(host, name, i):
    """Of one image of a batch."""
    regions = answers(host, name)[1].regions
    mine = regions.sample == i
    values = (regions.boxes, regions.labels, regions.scores)
    boxes, labels, scores = (value[mine] for value in values)
    found = Regions(regions.sample[mine], boxes, labels, scores=scores)
    if regions.probabilities is not None:
        found.probabilities = regions.probabilities[mine]
    return found


@each_host
@each_batch
def test_proposals_equal_the_published(host, name):
    settings, arrays = facts(host)
    for image, proposed in zip(BATCHES[name], answers(host, name)[0], strict=True):
        assert len(proposed.boxes) == settings["counts"][image]["n_prop"]
        kind = "prop_logits" if f"{image}_prop_logits" in arrays else "prop_scores"
        rows = torch.cat((proposed.boxes, proposed.scores[:, None]), 1)
        close(rows.double().sum(0)[None], arrays[f"{image}_prop_all_abssum"])
        wanted = np.column_stack((arrays[f"{image}_prop_boxes"], arrays[f"{image}_{kind}"]))
        first = rows[:100].numpy()
        # some scores are 1e-6 apart: compared as a set
        first, wanted = (r[np.lexsort(r[:, :4].round(1).T)] for r in (first, wanted))
        np.testing.assert_allclose(first[:, :4], wanted[:, :4], atol=1e-2)
        np.testing.assert_allclose(first[:, 4], wanted[:, 4], rtol=1e-4, atol=1e-4)


def orders(host, image, regions):
    """Rows of ours and of the recorded detections that belong together.

    Some scores are 1e-6 apart, so their order is not compared.
    """
    arrays = facts(host)[1]
    ours = np.lexsort((regions.boxes[:, 0], regions.labels))
    return ours, np.lexsort((arrays[f"{image}_det_boxes"][:, 0], arrays[f"{image}_det_classes"]))


@each_host
@each_batch
def test_detections_equal_the_published(host, name):
    arrays = facts(host)[1]
    for i, image in enumerate(BATCHES[name]):
        found = detections(host, name, i)
        assert (found.scores.diff() <= 0).all()
        ours, theirs = orders(host, image, found)
        wanted = {
            key: arrays[f"{image}_det_{key}"][theirs] for key in ("boxes", "scores", "classes")
        }
        assert found.labels[ours].tolist() == wanted["classes"].tolist()
        np.testing.assert_allclose(found.boxes[ours], wanted["boxes"], atol=1e-2)
        np.testing.assert_allclose(found.scores[ours], wanted["scores"], rtol=1e-4)


@pytest.mark.parametrize("host", WITH_MASKS)
@each_batch
def test_masks_equal_the_published(host, name):
    settings, arrays = facts(host)
    for i, image in enumerate(BATCHES[name]):
        found = detections(host, name, i)
        ours, theirs = orders(host, image, found)
        places = np.empty(len(theirs), int)
        places[theirs] = ours  # of each recorded detection among ours
        masks, boxes = found.probabilities[places], found.boxes[places]
        close(masks[:20], arrays[f"{image}_mask28"])
        close(masks.double().sum((1, 2)), arrays[f"{image}_mask28_abssum"])
        inside = settings["inputs"][image]["size"]
        size = tuple(settings["inputs"][image].get("output_size", inside))
        boxes = at_size(boxes, inside, size)
        if size != tuple(inside):
            np.testing.assert_allclose(boxes, arrays[f"{image}_det_boxes_out"], atol=1e-2)
        rles = paste(masks, boxes, size)
        areas = mask_io.area(rles).astype(int)
        assert abs(areas - arrays[f"{image}_pasted_area"]).max() <= 3
        bits = np.unpackbits(arrays[f"{image}_pasted_bits"], axis=1)[:, : size[0] * size[1]]
        pixels = np.stack([mask_io.decode(rle) for rle in rles[:5]])
        assert (pixels != bits.reshape(-1, *size)).sum() <= 5
