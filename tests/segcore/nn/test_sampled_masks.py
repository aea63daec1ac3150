"""Masks at the points of a matching: the compiled pass equals the one in PyTorch."""

import pytest
import torch
from prepared_models import needs_kernels

from segcore.nn import sampled_masks
from segcore.nn.mask_rles import has_compiled
from segcore.nn.sampled_masks import sample_masks

needs_compiled = pytest.mark.skipif(
    not has_compiled(torch.zeros(1), "sample_masks"), reason="ops/ is not built, or older"
)


def wild(*shape, dtype=torch.float32):
    """Logits from next to nothing to what overflows an exponential."""
    scale = torch.tensor([0.01, 1.0, 30.0, 200.0])[torch.randint(4, shape[:2])]
    return (torch.randn(shape) * scale[..., None, None, None]).to(dtype)


@needs_compiled
@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 7, 1, 16, 24), (2, 3, 2, 5, 3), (1, 2, 1, 1, 1)])
def test_the_compiled_pass_equals_pytorch(monkeypatch, isa, dtype, shape):
    monkeypatch.setenv("MSDA_ISA", isa)
    torch.manual_seed(0)
    masks = wild(*shape, dtype=dtype)
    points = torch.rand(shape[0], 133, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 1.0]])  # at the border
    mine, wanted = sample_masks(masks, points), sampled_masks._reference(masks, points)
    assert [x.dtype for x in mine] == [torch.float32] * 3
    torch.testing.assert_close(mine.values, wanted.values, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(mine.probs, wanted.probs, atol=1e-6, rtol=2e-5)
    torch.testing.assert_close(mine.softplus, wanted.softplus, atol=1e-5, rtol=1e-5)


@needs_compiled
def test_masks_that_are_no_block_of_memory_are_read_in_their_order():
    torch.manual_seed(0)
    masks = torch.randn(2, 3, 5, 8, 6).transpose(1, 2)  # (B, N, T, h, w)
    points = torch.rand(2, 40, 2)
    mine, wanted = sample_masks(masks, points), sampled_masks._reference(masks, points)
    torch.testing.assert_close(mine.values, wanted.values)


@needs_compiled
def test_what_is_not_a_number_stays_so():
    masks = torch.zeros(1, 2, 1, 4, 4)
    masks[0, 0] = float("nan")
    sampled = sample_masks(masks, torch.rand(1, 20, 2))
    assert sampled.softplus.isnan().tolist() == [[True, False]]
    assert sampled.probs[0, 0].isnan().all() and not sampled.probs[0, 1].isnan().any()


def test_other_kinds_and_no_points_go_through_pytorch_or_are_empty():
    masks = torch.randn(1, 2, 1, 4, 4)
    double = sample_masks(masks.double(), torch.rand(1, 3, 2))
    assert double.values.shape == (1, 2, 3) and double.values.dtype == torch.float32
    nothing = sample_masks(masks[:, :0], torch.rand(1, 3, 2))
    assert nothing.values.shape == (1, 0, 3) and nothing.softplus.shape == (1, 0)
    empty = sample_masks(masks[:0], torch.rand(0, 3, 2))
    assert empty.values.shape == (0, 2, 3) and empty.softplus.shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_points_of_other_kinds_and_masks_that_learn_give_values_without_gradients(dtype):
    masks, points = torch.randn(1, 2, 1, 4, 4, requires_grad=True), torch.rand(1, 3, 2)
    for sampled in (sample_masks(masks, points.to(dtype)), sample_masks(masks.double(), points)):
        assert not any(part.requires_grad for part in sampled)


def test_masks_without_a_cell_raise():
    with pytest.raises(RuntimeError, match="non-empty spatial dimensions"):
        sample_masks(torch.zeros(1, 2, 1, 0, 0), torch.rand(1, 3, 2))


@needs_kernels("0.1.1")
def test_masks_without_a_cell_raise_in_the_kernel():
    with pytest.raises(RuntimeError, match="masks without a cell"):
        torch.ops.msda.sample_masks(torch.zeros(2, 0, 0), torch.rand(3, 2))
