"""The compiled pass from mask logits to run lengths against its definition in PyTorch."""

import numpy as np
import pytest
import torch

from segcore import masks as mask_io
from segcore.nn import mask_rles, ms_deform_attn
from segcore.nn.resize import Upsampler

compiled = pytest.mark.skipif(
    not mask_rles.has_compiled(torch.zeros(0)), reason="ops/ is not built, or of an older version"
)
VIEWS = {  # name -> cells, canvas, inside, size
    "plain": ((50, 76), (200, 304), (200, 304), (200, 304)),
    "padded": ((24, 40), (96, 160), (81, 133), (81, 133)),
    "two resizes": ((24, 40), (96, 160), (81, 133), (107, 61)),
    "two resizes, larger": ((25, 13), (100, 52), (99, 50), (257, 190)),
    "much smaller": ((32, 48), (128, 192), (128, 150), (9, 7)),
    "canvas below cells": ((40, 30), (20, 17), (19, 17), (64, 65)),
    "one row": ((1, 9), (4, 36), (3, 30), (1, 31)),
    "one pixel": ((1, 1), (4, 4), (2, 1), (1, 1)),
}


def drawn(kind: str, h: int, w: int) -> torch.Tensor:
    """(7, h, w) logits."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(7, h, w, generator=generator)
    rows, columns = torch.arange(h)[:, None], torch.arange(w)
    if kind == "noise":
        return noise
    if kind == "tied":  # whole numbers: many pixels are zero, exactly or but for rounding
        return noise.round()
    shapes = torch.stack([
        x.expand(h, w) for x in (
            (rows + columns) % 2 == 0, rows < h // 2, columns >= w // 2, rows + columns == 0,
            (rows == h - 1) & (columns == w - 1), rows >= 0, rows < 0,
        )
    ])  # fmt: skip
    return torch.where(shapes, 4.0, -4.0) + 0.1 * noise


def assert_equal(found: mask_rles.EncodedMasks, wanted: mask_rles.EncodedMasks) -> None:
    assert found.rles == wanted.rles
    assert torch.equal(found.boxes, wanted.boxes)
    torch.testing.assert_close(found.quality, wanted.quality, rtol=0, atol=1e-6)


@compiled
@pytest.mark.parametrize("isa", ["avx512", "avx2"])
@pytest.mark.parametrize("kind", ["noise", "shapes"])
@pytest.mark.parametrize("view", VIEWS)
def test_one_pass_equals_its_definition(monkeypatch, view, kind, isa):
    monkeypatch.setenv("MSDA_ISA", isa)
    (h, w), canvas, inside, size = VIEWS[view]
    masks, up = drawn(kind, h, w), Upsampler(canvas, inside, size)
    assert_equal(mask_rles.encode(masks, up), mask_rles._reference(masks, up))
    found = mask_rles.encode(masks.bfloat16(), up)
    assert_equal(found, mask_rles._reference(masks.bfloat16().float(), up))


@compiled
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("view", VIEWS)
def test_only_pixels_that_are_zero_but_for_rounding_may_differ(monkeypatch, view, isa):
    """Whole logits cancel out; and without fused multiplication and addition sums round twice."""
    monkeypatch.setenv("MSDA_ISA", isa)
    (h, w), canvas, inside, size = VIEWS[view]
    masks, up = drawn("tied", h, w), Upsampler(canvas, inside, size)
    logits = up.columns(masks)(0, up.size[1]).transpose(1, 2)
    rles = mask_rles.encode(masks, up).rles
    found = torch.from_numpy(np.stack([mask_io.decode(rle) for rle in rles]))
    sure = logits.abs() > 1e-6
    assert (found == (logits > 0))[sure].all()
    assert sure.any()


@compiled
def test_nothing_gives_nothing():
    up = Upsampler((8, 8), (8, 8), (5, 6))
    for encode in (mask_rles.encode, mask_rles._reference):
        encoded = encode(torch.zeros(0, 2, 2), up)
        assert encoded.rles == []
        assert encoded.quality.shape == (0,)
        assert encoded.boxes.shape == (0, 4)


@compiled
def test_results_do_not_depend_on_threads_or_strides():
    up = Upsampler((96, 160), (81, 133), (107, 61))
    masks = drawn("noise", 24, 40)
    wanted = mask_rles.encode(masks, up)
    threads = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        assert_equal(mask_rles.encode(masks, up), wanted)
        clip = torch.stack([masks, -masks], 1)  # (N, T, h, w)
        assert_equal(mask_rles.encode(clip[:, 0], up), wanted)
    finally:
        torch.set_num_threads(threads)


def test_without_the_kernels_or_with_older_ones_the_definition_takes_over(monkeypatch):
    up = Upsampler((96, 160), (81, 133), (107, 61))
    masks = drawn("noise", 24, 40)
    wanted = mask_rles._reference(masks, up)
    monkeypatch.setattr(ms_deform_attn, "compiled", None)
    assert not mask_rles.has_compiled(masks)
    assert_equal(mask_rles.encode(masks, up), wanted)


@compiled
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": torch.full((1, 5), 2, dtype=torch.int32)}, "reads cells outside of 0..2"),
        ({"first": torch.zeros(1, 5)}, "first must be int32"),
        ({"first": torch.zeros(2, 5, dtype=torch.int32)}, "an axis must be first"),
        ({"weights": torch.ones(1, 2, 0)}, "an axis must be first"),
    ],
)
def test_an_axis_that_reads_elsewhere_raises(change, message):
    good = {"first": torch.zeros(1, 5, dtype=torch.int32), "weights": torch.ones(1, 2, 5)}
    axis = mask_rles.Taps(**(good | change))
    with pytest.raises(RuntimeError, match=message):
        mask_rles.encode_compiled(
            torch.zeros(3, 3, 3), axis, mask_rles.Taps(**good), 0.0, score=True
        )
