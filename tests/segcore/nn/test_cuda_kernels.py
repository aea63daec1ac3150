"""The CUDA kernels, run on the CPU with warps of fibers (cuda_on_cpu/), against the definition."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from segcore.nn import ms_deform_attn as door

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"),
]
KINDS = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
Run = Callable[..., list[Tensor]]


class Problem(ctypes.Structure):
    """ops/csrc/problem.h"""

    _fields_ = [
        *((name, ctypes.c_int64) for name in "B S heads C Q L P".split()),
        ("shapes", ctypes.POINTER(ctypes.c_int64)),
        *((name, ctypes.c_bool) for name in ("fused", "per_sample", "per_level")),
    ]


class Tensors(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p)
        for name in "value reference points weights grad out g_value g_points g_weights".split()
    ]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    here = Path(__file__).with_name("cuda_on_cpu")
    library = tmp_path_factory.mktemp("cuda") / "kernels.so"
    options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", f"-I{here}"]
    subprocess.run(["g++", *options, here / "run.cpp", "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.run.restype = ctypes.c_char_p
    return loaded


def run(kernels, value, shapes, reference, points, weights, grad=None) -> list[Tensor]:
    """The output, or three gradients."""
    B, S, heads, C = value.shape
    Q, L, P = points.shape[1], points.shape[3], points.shape[4]
    numbers = (ctypes.c_int64 * len(shapes))(*shapes)
    several = (False, False)
    if reference is not None:
        several = (reference.shape[0] > 1, reference.shape[2] > 1)
    problem = Problem(B, S, heads, C, Q, L, P, numbers, reference is not None, *several)
    if grad is None:
        outs = [torch.full((B, Q, heads * C), 7.0, dtype=value.dtype)]
        places = [None, outs[0], None, None, None]
    else:
        exact = points.dtype
        outs = [torch.zeros(value.shape, dtype=exact), points.clone(), weights.clone()]
        places = [grad, None, *outs]
    inputs = [value, reference, points, weights, *places]
    tensors = Tensors(*(None if x is None else x.data_ptr() for x in inputs))
    kind = KINDS[value.dtype]
    error = kernels.run(ctypes.byref(problem), ctypes.byref(tensors), kind, grad is not None)
    assert error is None, error
    return outs


def inputs(shapes, Q, heads, C, P, dtype, B=2, per_level=False):
    torch.manual_seed(0)
    L = len(shapes) // 2
    S = sum(h * w for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    exact = torch.promote_types(dtype, torch.float32)
    value = torch.randn(B, S, heads, C).to(dtype)
    Q = Q or S  # the tiles of an encoder
    reference = torch.rand(B if per_level else 1, Q, L if per_level else 1, 2, dtype=exact)
    offsets = 2 * torch.randn(B, Q, heads, L, P, 2, dtype=exact)
    offsets[0, 0, 0, 0, 0, 0] = float("nan")
    offsets[0, 1, 0, 0, 0, 1] = float("inf")
    logits = torch.randn(B, Q, heads, L * P, dtype=exact)
    grad = torch.randn(B, Q, heads * C).to(dtype)
    return value, reference, offsets, logits, grad


# shapes, queries (0: one per token), heads, channels, points, type, a reference per level
CASES = {
    "encoder": ([3, 5, 9, 11, 1, 1], 0, 2, 32, 4, torch.float32, False),
    "encoder-bf16": ([3, 5, 9, 11, 1, 7], 0, 1, 32, 4, torch.bfloat16, True),
    "decoder-fp16": ([4, 5, 6, 3, 2, 2, 1, 1], 37, 1, 64, 4, torch.float16, True),
    "lanes-4": ([4, 5, 6, 3], 40, 2, 16, 3, torch.float32, True),
    "odd-channels": ([4, 5, 1, 3], 9, 2, 13, 2, torch.float32, False),
    "fp64": ([4, 5, 1, 3], 9, 1, 10, 5, torch.float64, True),
}


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    bound = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-2)
    assert (found.double() - wanted).abs().max() <= bound * wanted.abs().max()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_kernels_equal_the_definition(kernels, case, fused):
    shapes, Q, heads, C, P, dtype, per_level = case
    value, reference, offsets, logits, grad = inputs(
        shapes, Q, heads, C, P, dtype, per_level=per_level
    )
    if fused:
        args = (reference, offsets, logits)
        exact = [x.double() for x in args]
        wanted = [door._fused(door._reference, value.double(), shapes, *exact)]
        full = (grad.double(), value.double(), shapes, *exact)
        wanted += door._fused_backward(door._reference_backward, *full)
    else:
        locations = door._locations(reference, shapes, offsets)
        args = (None, locations, door._weights(logits, offsets).contiguous())
        exact = [args[1].double(), args[2].double()]
        wanted = [door._reference(value.double(), shapes, *exact)]
        wanted += door._reference_backward(grad.double(), value.double(), shapes, *exact)
    found = run(kernels, value, shapes, *args) + run(kernels, value, shapes, *args, grad)
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        # sums of value's gradient and the small gradients are kept in full
        close(a, b, dtype if i == 0 else torch.promote_types(dtype, torch.float32))
