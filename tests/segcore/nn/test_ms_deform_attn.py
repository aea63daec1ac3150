"""The sampling op: whatever kernel the dispatcher finds, against the definition."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segcore.nn import ms_deform_attn as door

SHAPES = [3, 5, 1, 7, 6, 4]
CASES = {"plain": (2, 11, 2, 32, 4), "odd": (1, 5, 3, 7, 2), "one": (1, 1, 1, 16, 1),
         "many": (1, 700, 2, 32, 4)}  # fmt: skip


def inputs(B, Q, heads, C, P, dtype=torch.float32, shapes=SHAPES):
    torch.manual_seed(0)
    S = sum(h * w for h, w in zip(shapes[::2], shapes[1::2], strict=True))
    L = len(shapes) // 2
    value = torch.randn(B, S, heads, C, dtype=dtype)
    reference = torch.rand(1, Q, 1, 2, dtype=dtype)
    offsets = 2 * torch.randn(B, Q, heads, L, P, 2, dtype=dtype)
    logits = torch.randn(B, Q, heads, L * P, dtype=dtype)
    return value, shapes, reference, offsets, logits


def plain_inputs(*case, **options):
    value, shapes, reference, offsets, logits = inputs(*case, **options)
    locations = door._locations(reference, shapes, offsets)
    return value, shapes, locations, logits.softmax(-1).unflatten(-1, offsets.shape[3:5])


def fused_definition(value, shapes, reference, offsets, logits):
    locations = door._locations(reference, shapes, offsets)
    return door._reference(
        value, shapes, locations, logits.softmax(-1).unflatten(-1, offsets.shape[3:5])
    )


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def gradients(function, args, grad):
    leaves = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    out = function(*leaves)
    return out, torch.autograd.grad(out, [x for x in leaves if isinstance(x, torch.Tensor)], grad)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_forward_and_backward_equal_the_definition(case):
    for function, reference, args in (
        (door.ms_deform_attn, door._reference, plain_inputs(*case)),
        (door.deform_attn, fused_definition, inputs(*case)),
    ):
        grad = torch.randn(case[0], case[1], case[2] * case[3])
        out, found = gradients(function, args, grad)
        wanted_out, wanted = gradients(reference, args, grad)
        close(out, wanted_out)
        for a, b in zip(found, wanted, strict=True):
            close(a, b)


def test_no_query_is_no_work():
    value, shapes, reference, offsets, logits = inputs(2, 0, 2, 8, 4)
    value.requires_grad_()
    out = door.deform_attn(value, shapes, reference, offsets, logits)
    assert out.shape == (2, 0, 16)
    out.sum().backward()
    assert (value.grad == 0).all()


def test_points_outside_and_not_finite_read_nothing():
    value, shapes, locations, weights = plain_inputs(1, 8, 1, 4, 2)
    locations[0, 0] = float("nan")
    locations[0, 1] = float("inf")
    locations[0, 2] = -5e30
    locations[0, 3, ..., 0] = float("nan")
    grad = torch.ones(1, 8, 4)
    out, found = gradients(door.ms_deform_attn, (value, shapes, locations, weights), grad)
    assert (out[0, :4] == 0).all()
    assert all(g.isfinite().all() for g in found)
    assert (found[1][0, :4] == 0).all()


def test_half_outside_reads_the_half_inside():
    value = torch.ones(1, 4, 1, 1)
    locations = torch.tensor([0.0, 0.25]).view(1, 1, 1, 1, 1, 2)  # the left edge of pixel (0, 0)
    out = door.ms_deform_attn(value, [2, 2], locations, torch.ones(1, 1, 1, 1, 1))
    assert out.item() == 0.5


@pytest.mark.parametrize("function", ["ms_deform_attn", "deform_attn"])
def test_gradcheck(function):
    make = plain_inputs if function == "ms_deform_attn" else inputs
    args = make(1, 3, 2, 3, 2, dtype=torch.float64, shapes=[3, 4, 2, 2])
    leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    assert torch.autograd.gradcheck(getattr(door, function), leaves)


@pytest.mark.parametrize("op", ["ms_deform_attn", "deform_attn"])
def test_opcheck(op):
    args = (plain_inputs if op == "ms_deform_attn" else inputs)(1, 3, 2, 4, 2)
    leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    torch.library.opcheck(getattr(torch.ops.segcore, op).default, tuple(leaves))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_values_keep_full_locations(dtype):
    value, shapes, reference, offsets, logits = inputs(1, 9, 2, 8, 4)
    half = door.deform_attn(value.to(dtype), shapes, reference, offsets, logits)
    assert half.dtype == dtype
    full = door.deform_attn(value.to(dtype).float(), shapes, reference, offsets, logits)
    torch.testing.assert_close(half, full.to(dtype))


def test_strided_inputs():
    value, shapes, reference, offsets, logits = inputs(2, 9, 2, 8, 4)
    wanted = door.deform_attn(value, shapes, reference, offsets, logits)
    strided = value.transpose(1, 2).contiguous().transpose(1, 2)
    far = torch.stack((offsets, offsets), -1)[..., 0]
    close(door.deform_attn(strided, shapes, reference.expand(2, -1, 3, 2), far, logits), wanted)


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])  # or the best below it
@pytest.mark.parametrize("C", [4, 16, 33, 96, 200])
def test_every_instruction_set_and_width(monkeypatch, isa, C):
    monkeypatch.setenv("MSDA_ISA", isa)
    args = inputs(2, 9, 2, C, 4)
    grad = torch.randn(2, 9, 2 * C)
    out, found = gradients(door.deform_attn, args, grad)
    wanted_out, wanted = gradients(fused_definition, args, grad)
    for a, b in zip((out, *found), (wanted_out, *wanted), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_threads_change_nothing():
    args = inputs(1, 50, 2, 32, 4)
    grad = torch.randn(1, 50, 64)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 8):  # a head each; a head each; a level each
        torch.set_num_threads(threads)
        out, found = gradients(door.deform_attn, args, grad)
        results.append((out, *found))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_point_on_the_border_is_outside():
    value = torch.ones(1, 6, 1, 1, requires_grad=True)
    edge = torch.tensor([[-0.5 / 3, 0.5], [3.5 / 3, 0.5], [0.5, -0.25], [0.5, 1.25]])
    locations = edge.view(1, 4, 1, 1, 1, 2).requires_grad_()
    weights = torch.ones(1, 4, 1, 1, 1, requires_grad=True)
    out = door.ms_deform_attn(value, [2, 3], locations, weights)
    grads = torch.autograd.grad(out.sum(), (value, locations, weights))
    assert (out == 0).all()
    assert all((g == 0).all() for g in grads)


def test_autocast_leaves_locations_exact():
    value, shapes, reference, offsets, logits = inputs(1, 9, 2, 8, 4)
    wanted = door.deform_attn(value.bfloat16(), shapes, reference, offsets, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = door.deform_attn(value.bfloat16(), shapes, reference, offsets, logits)
    assert torch.equal(found, wanted)


def test_wrong_sizes_are_refused():
    pytest.importorskip("MultiScaleDeformableAttention")
    value, shapes, reference, offsets, logits = inputs(1, 9, 2, 8, 4)
    with pytest.raises(RuntimeError, match="shapes say"):
        door.deform_attn(value[:, 1:], shapes, reference, offsets, logits)
    with pytest.raises(RuntimeError, match="reference must be"):
        door.deform_attn(value, shapes, reference[:, 1:], offsets, logits)
    with pytest.raises(RuntimeError, match="one number per location"):
        door.deform_attn(value, shapes, reference, offsets, logits[..., 1:])


def test_the_old_extension():
    ops = pytest.importorskip("MultiScaleDeformableAttention")
    value, shapes, locations, weights = plain_inputs(2, 9, 2, 8, 4)
    grad = torch.randn(2, 9, 16)
    out, found = gradients(door._reference, (value, shapes, locations, weights), grad)
    sizes = torch.tensor(shapes).view(3, 2)
    starts = torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))
    args = (value, sizes, starts, locations, weights)
    close(ops.ms_deform_attn_forward(*args, 128), out)
    for a, b in zip(ops.ms_deform_attn_backward(*args, grad, 128), found, strict=True):
        close(a, b)


@pytest.mark.slow
def test_without_the_compiled_op_it_is_said_once():
    code = (
        "import sys, torch; sys.modules['MultiScaleDeformableAttention'] = None\n"
        "from segcore.nn.ms_deform_attn import ms_deform_attn\n"
        "args = torch.ones(1, 6, 1, 2), [2, 3], torch.ones(1, 1, 1, 1, 1, 2) / 2\n"
        "for _ in range(2): print(ms_deform_attn(*args, torch.ones(1, 1, 1, 1, 1)).sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2.0", "2.0"]
    assert done.stderr.count("./ops") == 1


@pytest.mark.slow
def test_triton_kernels():
    pytest.importorskip("triton")
    script = Path(__file__).with_name("triton_on_cpu.py")
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.slow
def test_compiles_whole():
    args = inputs(1, 5, 2, 8, 4)
    compiled = torch.compile(door.deform_attn, fullgraph=True, backend="aot_eager")
    grad = torch.randn(1, 5, 16)
    out, found = gradients(compiled, args, grad)
    wanted_out, wanted = gradients(door.deform_attn, args, grad)
    for a, b in zip((out, *found), (wanted_out, *wanted), strict=True):
        close(a, b)
