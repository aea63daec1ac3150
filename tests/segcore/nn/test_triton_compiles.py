"""Triton's kernels for GPUs that are not here: machine code of each, and one for all sizes."""

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import BaseBackend, GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.jit import create_function_from_signature  # noqa: E402

from segcore.nn import ms_deform_attn_triton as kernels  # noqa: E402

KERNELS = {"forward": kernels._forward, "backward": kernels._backward}
SIZES = {"L": 2, "P": 1, "BLOCK_Q": 32, "BLOCK_C": 32}


@pytest.mark.slow
@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize(
    ("capability", "value"), [(75, "fp16"), (80, "bf16"), (90, "fp32"), (120, "fp64")]
)
def test_kernels_compile_for_every_gpu(tmp_path, monkeypatch, which, capability, value):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, exact = KERNELS[which], "fp64" if value == "fp64" else "fp32"
    types = dict.fromkeys(("value", "out", "grad"), f"*{value}") | dict.fromkeys("SQC", "i32")
    types |= {"heads": "i32", "shapes": ("fp32",) * 4} | dict.fromkeys(SIZES, "constexpr")
    signature = {name: types.get(name, f"*{exact}") for name in kernel.arg_names}
    constants = {(kernel.arg_names.index(name),): size for name, size in SIZES.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert len(compiled.asm["cubin"]) > 1000


@pytest.mark.parametrize("which", KERNELS)
def test_one_variant_serves_images_of_all_sizes(which):
    kernel = KERNELS[which]
    variant = create_function_from_signature(kernel.signature, kernel.params, BaseBackend)
    variants = set()
    for sides in ([16, 16, 32, 32], [1, 17, 3, 32], [25, 38, 50, 76], [1, 1, 2, 2]):
        tokens = sides[0] * sides[1] + sides[2] * sides[3]
        numbers = {"shapes": kernels._numbers(sides), "S": tokens, "Q": tokens, "heads": 8, "C": 32}
        numbers |= SIZES
        args = [numbers.get(name, torch.empty(1)) for name in kernel.arg_names]
        variants.add(str(variant(*args)[1]))
    assert len(variants) == 1
