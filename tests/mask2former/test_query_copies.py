"""Another number of queries than a network has learnt: what stays as it was, and what parts."""

from dataclasses import replace

import pytest
import torch
from test_model import images, small_model, whole
from test_postprocess import THING, K, batch, smooth

from mask2former.decoder import MaskedDecoder
from mask2former.distinct import Duplicates, distinct
from mask2former.postprocess import PostProcess
from segcore import query_rows
from segcore.query_rows import noise_of_copies, tile_rows
from segcore.structures import Outputs, Prediction

LEARNED = 7  # queries of the small model


def grown(count, model=None):
    """The small model with tiled queries, as weights are loaded into a larger one."""
    model = model or small_model()
    decoder = model.decoder
    noise = noise_of_copies(LEARNED, count, 32)
    decoder.query_feat.weight = torch.nn.Parameter(tile_rows(decoder.query_feat.weight, noise))
    decoder.query_embed.weight = torch.nn.Parameter(tile_rows(decoder.query_embed.weight, noise))
    return model


def answers(model, count=None):
    """All predictions, of the first queries."""
    with torch.no_grad():
        pixels = images(2)
        layers = model(pixels, whole(pixels)).layers
    return [Prediction(x.logits[:, :count], x.masks[:, :count]) for x in layers]


def difference(found, wanted):
    return max(
        float((a - b).abs().max() / b.abs().max())
        for x, y in zip(found, wanted, strict=True)
        for a, b in ((x.logits, y.logits), (x.masks, y.masks))
    )


@pytest.mark.parametrize("count", [14, 21])
def test_all_queries_tiled_without_noise_say_what_they_said(count, monkeypatch):
    monkeypatch.setattr(query_rows, "SPREAD", 0.0)
    found = answers(grown(count))
    for first in range(0, count, LEARNED):
        part = [
            Prediction(x.logits[:, first:][:, :LEARNED], x.masks[:, first:][:, :LEARNED])
            for x in found
        ]
        assert difference(part, answers(small_model())) < 1e-6


def test_some_queries_tiled_weigh_more_than_others(monkeypatch):
    """Why only a whole multiple leaves results as they were."""
    monkeypatch.setattr(query_rows, "SPREAD", 0.0)
    assert difference(answers(grown(10), LEARNED), answers(small_model())) > 1e-4


def test_results_move_as_little_as_the_noise():
    assert 0 < difference(answers(grown(14), LEARNED), answers(small_model())) < 0.03


def test_a_grown_model_run_with_its_old_queries_equals_the_old_one():
    """Bit for bit: the first rows are those of the checkpoint, and the copies are cut off."""
    model = grown(17)
    model.decoder.test_noise = noise_of_copies(17, LEARNED, 32)
    for found, wanted in zip(answers(model), answers(small_model()), strict=True):
        assert torch.equal(found.logits, wanted.logits) and torch.equal(found.masks, wanted.masks)


def test_copies_get_gradients_of_their_own():
    model = grown(14).train()
    pixels = images(1)
    layers = model(pixels, whole(pixels)).layers
    sum(x.masks.square().mean() + x.logits.square().mean() for x in layers).backward()
    for table in (model.decoder.query_feat, model.decoder.query_embed):
        gradient = table.weight.grad
        apart = (gradient[:LEARNED] - gradient[LEARNED:]).norm(dim=1)
        assert (apart > 1e-4 * gradient[:LEARNED].norm(dim=1)).all()


def decoder(test_queries):
    torch.manual_seed(0)
    return MaskedDecoder(
        num_classes=5, num_queries=LEARNED, test_queries=test_queries, dim=32, mask_dim=24,
        num_heads=4, ffn_dim=48, num_layers=4,
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 3, 7, 20])
def test_queries_at_inference_are_as_many_as_asked_for_and_in_training_as_learned(count):
    model = decoder(count)
    features, code = model.eval().learned()
    assert len(features) == len(code) == (count or LEARNED)
    shared = min(len(features), LEARNED)
    assert torch.equal(features[:shared], model.query_feat.weight[:shared])
    assert torch.equal(code[:shared], model.query_embed.weight[:shared])
    assert len(torch.unique(features, dim=0)) == len(features)
    assert model.train().learned()[0] is model.query_feat.weight
    assert not any("noise" in name for name in model.state_dict())


def test_small_embeddings_are_not_drowned_by_the_noise():
    rows = 1e-4 * torch.randn(4, 64)
    moved = tile_rows(rows, noise_of_copies(4, 8, 64))[4:] - rows
    assert 0.005 < float(moved.norm() / rows.norm()) < 0.02


def greedy(masks, labels):
    """Plainly: in order, who overlaps no one kept."""
    kept = []
    for i, mask in enumerate(masks):
        others = [masks[j] for j in kept if labels[j] == labels[i]]
        if not any((mask & x).sum() > 0.7 * (mask | x).sum() for x in others):
            kept.append(i)
    return kept


def test_distinct_equals_greedy_suppression():
    """Rings of squares, each moved a little: who is a copy of a copy that is none stays."""
    masks = torch.full((30, 1, 24, 60), -1.0)
    for i in range(30):
        masks[i, 0, 2:22, i : i + 20] = 1
    masks[7] = -1  # nowhere: no duplicate of another such
    masks[21] = -1
    for labels in (torch.zeros(30, dtype=torch.int64), torch.arange(30) % 2):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
        kept = distinct(masks, order, labels)
        wanted = greedy(masks[order].flatten(1) > 0, labels)
        assert kept.tolist() == wanted
        assert 5 < len(kept) < 30


SIZE = (53, 71)


def test_results_of_exact_copies_equal_those_of_the_originals():
    """Of every kind that can be: scores halve nowhere, no object comes twice."""
    logits = 3 * torch.randn(1, 12, K + 1, generator=torch.Generator().manual_seed(1))
    masks = smooth(1, 12, 8, 16, seed=2)[:, :, None]
    (kept,) = distinct(masks[0], torch.arange(12)).unsqueeze(0)
    logits, masks = logits[:, kept], masks[:, kept]  # none is a duplicate already
    twice = Outputs([Prediction(logits.repeat(1, 2, 1), masks.repeat(1, 2, 1, 1, 1))])
    once = Outputs([Prediction(logits, masks)])
    for flags in ({"panoptic": True}, {"panoptic": False}):
        post = PostProcess(THING, False, instances=True, max_instances=9, **flags)
        post = replace(post, object_threshold=0.5, overlap_threshold=0.1)
        (wanted,), (found,) = (
            post(once, batch(SIZE)),
            replace(post, duplicates=Duplicates(copies=2))(twice, batch(SIZE)),
        )
        assert found.instances.masks == wanted.instances.masks
        torch.testing.assert_close(found.instances.scores, wanted.instances.scores)
        assert torch.equal(found.instances.labels, wanted.instances.labels)
        if flags["panoptic"]:
            areas = [
                sorted((s.category, s.area) for s in x.panoptic.segments) for x in (found, wanted)
            ]
            assert areas[0] == areas[1] and areas[0]
    (doubled,) = post(twice, batch(SIZE))
    assert len(set(map(str, doubled.instances.masks))) < len(doubled.instances.masks)
