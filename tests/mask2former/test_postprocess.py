"""Post-processing against the published formulas, written out plainly at full size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mask2former.postprocess import PostProcess
from mask2former.semantic import class_scores, late_scores
from segcore import masks as mask_io
from segcore.contracts import AugmentedOutputs
from segcore.nn import resize
from segcore.nn.resize import Upsampler
from segcore.structures import Batch, Frame, Outputs, Prediction, Record

THING = (True, False, True, True, False)
K, Q = len(THING), 12


def smooth(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(*shape[:-2], 4, 5, generator=generator)
    return 4 * F.interpolate(coarse, shape[-2:], mode="bicubic")


@pytest.fixture(params=[(53, 71), (20, 33), (24, 40)])
def case(request, monkeypatch):
    """Logits of a view of 24x40 on a 32x64 canvas, for three output sizes; bands are thin."""
    monkeypatch.setattr(resize, "SMALL", replace(resize.SMALL, values=2000))
    logits = 3 * torch.randn(1, Q, K + 1, generator=torch.Generator().manual_seed(1))
    masks = smooth(1, Q, 8, 16, seed=2)
    return logits, masks, request.param


def run(case, **kwargs):
    logits, masks, size = case
    flags = {"semantic": False, "panoptic": False, "instances": False} | kwargs
    return PostProcess(THING, **flags)(
        Outputs([Prediction(logits, masks[:, :, None])]), batch(size)
    )[0]


def batch(size, T=1):
    images = torch.zeros(1, T, 3, 32, 64, dtype=torch.uint8)
    sizes = torch.tensor([[[24, 40]] * T])
    record = Record(1, size, (Frame(Path("x")),) * T)
    return Batch(images, sizes, torch.zeros(1, T, 4), [], [record])


def plain(masks, size):
    """(Q, h, w) -> (Q, H, W), two bilinear resizes with the cut between them."""
    full = F.interpolate(masks[None], (32, 64), mode="bilinear")[..., :24, :40]
    return F.interpolate(full, size, mode="bilinear")[0]


def test_columns_are_those_of_two_resizes(case):
    _, masks, size = case
    columns = Upsampler((32, 64), (24, 40), size).columns(masks[0])
    parts = [columns(low, high) for low, high in columns.bands()]
    assert len(parts) > 1
    torch.testing.assert_close(torch.cat(parts, 1).transpose(1, 2), plain(masks[0], size))


def test_semantic(case):
    logits, masks, size = case
    probs = logits[0].softmax(-1)
    wanted = torch.einsum("qk,qhw->khw", probs[:, :-1], plain(masks[0], size).sigmoid())
    up = Upsampler((32, 64), (24, 40), size)
    found = torch.cat(list(class_scores(probs, masks[0], up)), 1).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    result = run(case, semantic=True).semantic
    assert result.dtype == torch.uint8 and result.shape == size
    assert (result != wanted.argmax(0)).sum() <= 1


@pytest.mark.parametrize("swapped", [None, (2, 1, 0, *range(3, K))])
@pytest.mark.parametrize("late", [False, True])
def test_semantic_map_equals_the_mean_of_several_versions(case, late, swapped):
    """One of the plain image, one of the mirrored one at another size; resized late or not.

    In the mirrored one, perhaps, two classes have changed places.
    """
    logits, masks, size = case
    other = smooth(1, Q, 12, 16, seed=5)
    wide = Batch(
        torch.zeros(1, 1, 3, 48, 64, dtype=torch.uint8), torch.tensor([[[36, 60]]]),
        torch.zeros(1, 1, 4), [], batch(size).records,
    )  # fmt: skip
    process = PostProcess(THING, semantic=True, panoptic=False, instances=False, late_resize=late)
    versions = [
        AugmentedOutputs(Outputs([Prediction(logits, masks[:, :, None])]), batch(size), False),
        AugmentedOutputs(Outputs([Prediction(-logits, other[:, :, None])]), wide, True, swapped),
    ]
    total = torch.zeros(K, *size)
    for sign, cells, canvas, (h, w), mirrored in (
        (1, masks, (32, 64), (24, 40), False), (-1, other, (48, 64), (36, 60), True),
    ):  # fmt: skip
        full = F.interpolate(cells, canvas, mode="bilinear")[..., :h, :w]
        classes = (sign * logits[0]).softmax(-1)[:, :-1]
        if late:
            scores = torch.einsum("qk,qhw->khw", classes, full[0].sigmoid())[None]
            scores = F.interpolate(scores, size, mode="bilinear")[0]
        else:
            full = F.interpolate(full, size, mode="bilinear")[0]
            scores = torch.einsum("qk,qhw->khw", classes, full.sigmoid())
        if mirrored:
            scores = scores.flip(2)[list(swapped or range(K))]
        total += scores
    found = process.averaged(versions).semantic
    assert (found != total.argmax(0)).sum() <= 1
    assert (found != process(versions[0].outputs, versions[0].batch)[0].semantic).any()


def test_semantic_resized_late(case):
    logits, masks, size = case
    probs = logits[0].softmax(-1)
    full = F.interpolate(masks, (32, 64), mode="bilinear")[0].sigmoid()
    wanted = torch.einsum("qk,qhw->khw", probs[:, :-1], full)[:, :24, :40]
    wanted = F.interpolate(wanted[None], size, mode="bilinear")[0]
    up = Upsampler((32, 64), (24, 40), size)
    found = torch.cat(list(late_scores(probs, masks[0], up)), 1).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    result = run(case, semantic=True, late_resize=True).semantic
    assert (result != wanted.argmax(0)).sum() <= 1


def published_panoptic(logits, masks, size, threshold, overlap):
    scores, labels = logits.softmax(-1).max(-1)
    kept = (labels != K) & (scores > threshold)
    scores, labels, probs = scores[kept], labels[kept], plain(masks[kept], size).sigmoid()
    out, segments, stuff = torch.zeros(size, dtype=torch.int32), [], {}
    owner = (scores[:, None, None] * probs).argmax(0)
    for i, label in enumerate(labels.tolist()):
        both = (owner == i) & (probs[i] >= 0.5)
        owned, whole = int((owner == i).sum()), int((probs[i] >= 0.5).sum())
        if not (owned and whole and both.any()) or owned / whole < overlap:
            continue
        if label in stuff:
            out[both] = stuff[label]
            continue
        out[both] = len(segments) + 1
        segments.append((len(segments) + 1, label, THING[label]))
        if not THING[label]:
            stuff[label] = len(segments)
    return out, segments


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8])
def test_panoptic(case, overlap):
    logits, masks, size = case
    wanted, segments = published_panoptic(logits[0], masks[0], size, 0.3, overlap)
    found = run(case, panoptic=True, object_threshold=0.3, overlap_threshold=overlap).panoptic
    assert [(s.id, s.category, s.is_thing) for s in found.segments] == segments
    assert segments or overlap
    assert (found.map != wanted).sum() <= 1
    for segment in found.segments:
        assert segment.area == int((found.map == segment.id).sum())


def test_panoptic_without_a_confident_query(case):
    found = run(case, panoptic=True, object_threshold=1.0).panoptic
    assert not found.segments and not found.map.any() and found.map.shape == case[2]


@pytest.mark.parametrize("panoptic", [False, True])
@pytest.mark.parametrize("level", [0, -6])  # of the logits: half of the pixels, or a few
def test_instances(case, panoptic, level):
    logits, masks, size = case
    case = logits, masks + level, size
    masks = masks + level
    found = run(case, instances=True, panoptic=panoptic, max_instances=20).instances
    scores, index = logits[0].softmax(-1)[:, :-1].flatten().topk(20)
    full = plain(masks[0], size)
    wanted = []
    for score, i in zip(scores.tolist(), index.tolist(), strict=True):
        inside = full[i // K] > 0
        if not panoptic or THING[i % K]:
            mean = (full[i // K].sigmoid() * inside).sum() / (inside.sum() + 1e-6)
            wanted.append((score * float(mean), i % K, inside))
    wanted.sort(key=lambda entry: -entry[0])
    assert found.labels.tolist() == [label for _, label, _ in wanted]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in wanted], rtol=1e-5)
    for rle, box, (_, _, inside) in zip(found.masks, found.boxes, wanted, strict=True):
        assert (mask_io.decode(rle) != inside.numpy()).sum() == 0
        y, x = inside.nonzero().T if inside.any() else torch.zeros(2, 1)
        tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if inside.any() else [0] * 4
        assert box.tolist() == [float(v) for v in tight]


def test_fewer_pairs_than_wanted_instances(case):
    found = run(case, instances=True, max_instances=1000).instances
    assert len(found.scores) == len(found.masks) == Q * K


def test_a_mask_that_shows_nowhere(case):
    logits, masks, size = case
    found = run((logits, -masks.abs(), size), instances=True, max_instances=5).instances
    assert not mask_io.area(found.masks).any()
    assert not found.boxes.any() and not found.scores.any()


def test_tracks_have_a_mask_in_every_frame(case):
    logits, masks, size = case
    views = torch.stack((masks, masks.flip(-1)), dim=2)  # (1, Q, 2, h, w)
    post = PostProcess(THING, False, False, True, max_instances=10)
    found = post(Outputs([Prediction(logits, views)]), batch(size, T=2))[0].tracks
    scores, index = logits[0].softmax(-1)[:, :-1].flatten().topk(10)
    torch.testing.assert_close(found.scores, scores)
    assert found.labels.tolist() == (index % K).tolist()
    for track, i in zip(found.masks, index.tolist(), strict=True):
        for rle, mask in zip(track, (masks, masks.flip(-1)), strict=True):
            assert (mask_io.decode(rle) == (plain(mask[0], size)[i // K] > 0).numpy()).all()


def test_no_thing_among_the_best(case):
    """Things only, where the model is panoptic; here every class is stuff."""
    logits, masks, size = case
    post = PostProcess((False,) * K, False, True, True, max_instances=5)
    found = post(Outputs([Prediction(logits, masks[:, :, None])]), batch(size))[0].instances
    assert found.masks == [] and found.boxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
