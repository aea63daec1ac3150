"""Builds the kernels with plain g++ (and nvcc, where there is one): no pybind, one library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
TORCH = Path(torch.__file__).parent
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
ISAS = {
    "plain": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512", "-mfma"],
}


def run(command: list[str], what: str) -> None:
    """One compiler call; its own words, and what to do, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what} failed:\n{' '.join(command)}\n{done.stderr[-3000:]}")


class Build(build_ext):
    """Compile each file, then link one library beside the Python module."""

    def build_extension(self, ext: Extension) -> None:
        compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
        if not compiler:
            sys.exit("no C++ compiler found; install g++ (build-essential), or go on without ops")
        objects, folder = [], Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        include = [f"-I{TORCH}/include", f"-I{TORCH}/include/torch/csrc/api/include"]
        x86 = os.uname().machine == "x86_64"
        sources = {"ms_deform_attn": []} | {
            f"kernels_{isa}": flags for isa, flags in ISAS.items() if x86 or isa == "plain"
        }
        for name, flags in sources.items():
            goal = folder / f"{name}.o"
            source = HERE / "csrc" / "cpu" / f"{name}.cpp"
            extra = [*flags, "-ffp-contract=fast", "-fno-math-errno"]
            run([compiler, "-c", str(source), "-o", str(goal), *FLAGS, *extra, *include], name)
            objects.append(str(goal))
        library = Path(self.build_lib) / "MultiScaleDeformableAttention" / "_C.abi3.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        link = [compiler, "-shared", *objects, "-o", str(library), f"-L{TORCH}/lib"]
        run([*link, "-Wl,--no-as-needed", "-ltorch_cpu"], "linking")


setup(
    packages=["MultiScaleDeformableAttention"],
    ext_modules=[Extension("MultiScaleDeformableAttention._C", [], py_limited_api=True)],
    cmdclass={"build_ext": Build},
)
