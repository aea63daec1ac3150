"""Mask2Former prepared for a CPU says what the plain model says."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from prepared_models import (
    assert_a_hook_still_runs,
    assert_alike,
    both,
    needs_onednn,
    pixels,
)
from tiny_model import model_of

from mask2former.prepared import PREPARED
from segcore.nn.packed import PackedLinear
from segcore.nn.prepared import prepare

pytestmark = needs_onednn


def drawn(root):
    """A model of a draw whose own float32 answers are near float64's: one of another was 2e-5."""
    torch.manual_seed(0)
    return model_of(root)


@pytest.mark.parametrize("shape", [(1, 1, 3, 64, 96), (2, 1, 3, 50, 70), (1, 3, 3, 64, 64)])
def test_stills_batches_and_clips_equal_the_plain_model(root, shape):
    plain, prepared = both(drawn(root), PREPARED)
    with torch.inference_mode():
        wanted, mine = (model(*pixels(*shape)) for model in (plain, prepared))
    assert len(mine.layers) == len(wanted.layers) == 3
    for answer, other in zip(mine.layers, wanted.layers, strict=True):
        assert_alike(answer.logits, other.logits)
        assert_alike(answer.masks, other.masks)
    for feature, other in zip(mine.features, wanted.features, strict=True):
        assert_alike(feature, other)


def test_bf16_is_as_near_to_fp32_as_the_plain_model(root):
    plain, prepared = both(drawn(root), PREPARED, torch.bfloat16)
    images = pixels(1, 1, 3, 64, 96)
    with torch.inference_mode():
        exact = plain(*images)
        with torch.autocast("cpu", torch.bfloat16):
            theirs, mine = (model(*images) for model in (plain, prepared))
    for a, b, wanted in zip(theirs.features, mine.features, exact.features, strict=True):
        errors = [(x.float() - wanted).abs().mean() for x in (a, b)]
        assert errors[1] < 1.1 * errors[0]
    exact, theirs, mine = (answer.layers[-1] for answer in (exact, theirs, mine))
    for name in ("logits", "masks"):
        wanted = getattr(exact, name)
        errors = [(getattr(x, name).float() - wanted).abs().mean() for x in (theirs, mine)]
        assert errors[1] < 1.5 * errors[0] + 1e-3 * wanted.abs().mean()
        assert errors[1] < 0.03 * wanted.abs().mean()


def test_a_decoder_of_another_class_keeps_the_mask_convolution(root):
    model = drawn(root).eval()
    theirs = type("Theirs", (type(model.decoder),), {})
    model.decoder.__class__ = theirs
    images = pixels(1, 1, 3, 64, 64)
    with torch.inference_mode():
        wanted = model(*images).layers[-1].masks
        mine = prepare(copy.deepcopy(model), torch.float32, PREPARED)
        assert_alike(mine(*images).layers[-1].masks, wanted)
    assert type(mine.decoder) is theirs and isinstance(mine.decoder.class_embed, PackedLinear)


@pytest.mark.parametrize(
    "watched",
    [
        "backbone",
        "pixel_decoder.adapter_1",
        "pixel_decoder.input_proj.0.1",
        "pixel_decoder.mask_features",
        "pixel_decoder.transformer.encoder.layers.0.self_attn.value_proj",
        "decoder.layers.1.linear1",
        "decoder.mask_embed.layers.0",
    ],
)
def test_hooks_inside_still_run(root, watched):
    def run(model):
        answer = model(*pixels(1, 1, 3, 64, 96)).layers[-1]
        return answer.logits, answer.masks

    assert_a_hook_still_runs(drawn(root), PREPARED, watched, run)


def test_two_threads_at_once_get_what_one_gets(root):
    _, prepared = both(drawn(root), PREPARED)
    inputs = [pixels(1, 1, 3, *size, seed=size[0]) for size in ((64, 96), (96, 64), (80, 80))]

    def answer(given):
        with torch.inference_mode():
            return prepared(*given).layers[-1]

    alone = [answer(given) for given in inputs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(answer, inputs * 4))
    for mine, wanted in zip(together, alone * 4, strict=True):
        assert_alike(mine.logits, wanted.logits, 1e-6)
        assert_alike(mine.masks, wanted.masks, 1e-6)
