"""More queries than CropFormer has learnt: both passes have them, and no entity comes twice."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.nn import functional as F

from cropformer.decoder import CropDecoder
from cropformer.postprocess import EntityPostProcess
from mask2former.decoder import MaskedDecoder
from mask2former.distinct import Duplicates
from segcore.structures import Batch, Frame, Outputs, Prediction, Record


def test_both_passes_have_as_many_queries_as_asked_for():
    torch.manual_seed(0)
    decoder = MaskedDecoder(
        num_classes=1, num_queries=5, test_queries=12, dim=32, mask_dim=24, num_heads=4,
        ffn_dim=48, num_layers=3,
    )  # fmt: skip
    crops = CropDecoder(decoder, dim=32, num_heads=4, ffn_dim=48).eval()
    pyramid = [torch.randn(3, 32, s, s) for s in (2, 4, 8)]
    with torch.no_grad():
        alone, joint = crops(pyramid, torch.randn(3, 24, 16, 16), views=3)
    assert alone[-1].masks.shape == (3, 12, 1, 16, 16)
    assert joint[-1].masks.shape == (1, 12, 3, 16, 16)


def test_entities_of_exact_copies_equal_those_of_the_originals():
    generator = torch.Generator().manual_seed(5)
    masks = 4 * F.interpolate(torch.randn(1, 6, 4, 5, generator=generator), (8, 16))[:, :, None]
    logits = 3 * torch.randn(1, 6, 2, generator=generator)
    batch = Batch(
        torch.zeros(1, 1, 3, 32, 64, dtype=torch.uint8),
        torch.tensor([[[24, 40]]]),
        torch.tensor([[[0, 0, 71, 53]]]),
        [],
        [Record(1, (53, 71), (Frame(Path("x")),))],
    )
    post = EntityPostProcess()
    (wanted,) = post(Outputs([Prediction(logits, masks)]), batch)
    # copies a little less sure of themselves: each would own nothing, or a fringe
    less = torch.cat((logits, logits - torch.tensor([0.1, 0.0])), dim=1)
    twice = Outputs([Prediction(less, torch.cat((masks, masks + 0.3), dim=1))])
    (found,) = replace(post, duplicates=Duplicates(copies=2))(twice, batch)
    assert found.instances.masks == wanted.instances.masks
    torch.testing.assert_close(found.instances.scores, wanted.instances.scores)
    assert len(post(twice, batch)[0].instances.masks) == 12
