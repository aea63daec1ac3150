"""Run by test_ms_deform_attn.py in a process whose TRITON_INTERPRET is 1: fails, or prints ok."""

import torch

from segcore.nn import ms_deform_attn as door
from segcore.nn import ms_deform_attn_triton as kernels

SHAPES = [4, 5, 1, 3]


def check(C: int, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    value = torch.randn(2, 23, 2, C).to(dtype)
    locations = 1.6 * torch.rand(2, 9, 2, 2, 2, 2) - 0.3
    locations[0, 0], locations[0, 1] = float("nan"), float("inf")
    weights = torch.rand(2, 9, 2, 2, 2)
    grad = torch.randn(2, 9, 2 * C).to(dtype)
    args = (value, SHAPES, locations, weights)
    exact = (value.double(), SHAPES, locations.double(), weights.double())
    found = [kernels.forward(*args), *kernels.backward(grad, *args)]
    wanted = [door._reference(*exact), *door._reference_backward(grad.double(), *exact)]
    for a, b in zip(found, wanted, strict=True):
        assert (a.double() - b).abs().max() <= bound * b.abs().max()


check(8, torch.float32, 1e-5)
check(5, torch.float32, 1e-5)
check(8, torch.float16, 1e-3)
print("ok")
