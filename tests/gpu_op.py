"""The compiled op for a GPU that is none (gpu_stand_in.py): its CUDA operators, other kernels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
FIBERS = ROOT / "tests/segcore/nn/cuda_on_cpu"  # run the real kernels, thread by thread
SOURCES = ("ops/csrc/operators.cpp", "ops/csrc/cpu/ms_deform_attn.cpp")
IDLE = """
#include "{root}/ops/csrc/problem.h"
#include <cstdlib>
namespace msda {{
const char* cuda_problem() {{ return std::getenv("CUDA_PROBLEM"); }}
const char* forward_cuda(const Problem&, const Tensors&, Kind, void*) {{ return nullptr; }}
const char* backward_cuda(const Problem&, const Tensors&, Kind, void*) {{ return nullptr; }}
}}
"""


def build_op(folder: Path, *, kernels: Path | None = None) -> Path:
    """A library in `folder`; without `kernels` they do nothing, as all of the stand-in's."""
    if kernels is None:
        kernels = folder / "idle.cpp"
        kernels.write_text(IDLE.format(root=ROOT))
    torch_folder = Path(torch.__file__).parent
    options = [
        *("-std=c++17", "-O0", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-DWITH_CUDA"),
        "-DTORCH_TARGET_VERSION=0x020a000000000000",
        f"-isystem{torch_folder / 'include'}",
        f"-isystem{torch_folder / 'include/torch/csrc/api/include'}",
        *(f"-I{FIBERS}", f"-L{torch_folder / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", "-ldl"),
    ]
    library = folder / "op.so"
    sources = [ROOT / name for name in SOURCES]
    subprocess.run(["g++", *sources, kernels, *options, "-o", library], check=True)
    return library


def package(folder: Path) -> Path:
    """A folder for PYTHONPATH whose MultiScaleDeformableAttention is the op of idle kernels.

    Importing it also turns off cuDNN's attention, which asks more of cuDNN than the stand-in has.
    """
    inside = folder / "MultiScaleDeformableAttention"
    ours = (ROOT / "ops/MultiScaleDeformableAttention/__init__.py").read_text()
    inside.mkdir()
    build_op(folder).rename(inside / "_C.abi3.so")
    (inside / "__init__.py").write_text(f"{ours}\ntorch.backends.cuda.enable_cudnn_sdp(False)\n")
    return folder
