"""Results in a graph against post-processing one by one, at the input's size."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cropformer.graph_results import EntityResults
from cropformer.postprocess import EntityPostProcess
from mask2former.graph_results import QueryResults
from mask2former.postprocess import PostProcess
from segcore import masks as mask_io
from segcore.structures import Batch, Frame, Outputs, Prediction, Record

THING = (True, False, True, True, False)
K, Q = len(THING), 14
CANVAS, INSIDE = (64, 96), (52, 81)


@pytest.fixture(params=range(4))
def said(request):
    """Logits of an image; several queries say the same stuff, others nothing."""
    generator = torch.Generator().manual_seed(request.param)
    logits = 4 * torch.randn(Q, K + 1, generator=generator)
    coarse = torch.randn(1, Q, 5, 7, generator=generator)
    masks = 5 * F.interpolate(coarse, (16, 24), mode="bicubic")[0]
    return logits, masks


def batch():
    record = Record(1, INSIDE, (Frame(Path("x")),))
    images, sizes = torch.zeros(1, 1, 3, *CANVAS, dtype=torch.uint8), torch.tensor([[INSIDE]])
    return Batch(images, sizes, torch.tensor([[[0, 0, INSIDE[1], INSIDE[0]]]]), [], [record])


def both(said, **flags):
    """What post-processing says, and what a graph says inside the padding."""
    flags = {"semantic": False, "panoptic": False, "instances": False} | flags
    logits, masks = said
    answer = Outputs([Prediction(logits[None], masks[None, :, None])])
    (result,) = PostProcess(THING, **flags)(answer, batch())
    named = QueryResults(THING, **flags)(logits, masks[:, None], torch.tensor([INSIDE]), CANVAS)
    return result, named


def inside(map):
    return map[..., : INSIDE[0], : INSIDE[1]]


def few(differing):
    """Pixels at a threshold."""
    return int(differing.sum()) <= 2


def test_semantic_maps_are_equal(said):
    result, named = both(said, semantic=True)
    assert few(result.semantic != inside(named["semantic"]))


def test_panoptic_maps_are_equal(said):
    result, named = both(said, panoptic=True, object_threshold=0.4, overlap_threshold=0.3)
    assert len(result.panoptic.segments) > 1
    assert few(result.panoptic.map != inside(named["panoptic"]))
    assert not named["panoptic"][INSIDE[0] :].any()
    ids = named["segment_ids"].tolist()
    for segment in result.panoptic.segments:
        query = ids.index(segment.id)
        assert named["segment_labels"][query] == segment.category
        assert named["segment_scores"][query] == pytest.approx(segment.score, abs=1e-6)
    assert set(ids) == {0, *(segment.id for segment in result.panoptic.segments)}


@pytest.mark.parametrize("panoptic", [False, True])
def test_instances_are_equal(said, panoptic):
    result, named = both(said, instances=True, panoptic=panoptic, max_instances=20)
    count = len(result.instances.scores)
    assert count == 20 or panoptic
    assert torch.allclose(named["scores"][:count], result.instances.scores, atol=1e-5)
    assert not named["scores"][count:].any()
    assert named["labels"][:count].tolist() == result.instances.labels.tolist()
    for mask, rle in zip(named["instance_masks"], result.instances.masks, strict=False):
        assert few(inside(mask) != torch.from_numpy(mask_io.decode(rle)))


@pytest.mark.parametrize("most", [0, 5])
def test_entities_are_equal(said, most):
    logits, masks = said[0][:, :2], said[1]
    answer = Outputs([Prediction(logits[None], masks[None, :, None])])
    (result,) = EntityPostProcess(most)(answer, batch())
    named = EntityResults(most)(logits, masks[:, None], torch.tensor([INSIDE]), CANVAS)
    assert few(result.panoptic.map != inside(named["entities"]))
    assert torch.allclose(named["entity_scores"], result.instances.scores, atol=1e-3)
