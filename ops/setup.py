"""Builds the kernels with the C++ compiler, and with nvcc where there is one.

torch's own extension builder wants a torch with CUDA to build CUDA; the stable ABI does not, so
the compilers are called directly. Environment: CXX, CUDA_HOME, TORCH_CUDA_ARCH_LIST ("8.0;9.0"),
MSDA_CUDA=0 (never) or 1 (fail where it cannot be built).
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def find_torch() -> Path:
    """torch's folder. pip's isolated build hides it from imports, but it is beside this Python."""
    spec = importlib.util.find_spec("torch")
    folders = [Path(spec.origin).parent] if spec and spec.origin else []
    folders += [Path(sysconfig.get_path(kind), "torch") for kind in ("platlib", "purelib")]
    for folder in folders:
        if (folder / "include/torch/csrc/stable/library.h").exists():
            return folder
    if any(folder.exists() for folder in folders):
        sys.exit("ops: this torch is older than 2.10, the first that works; update torch")
    sys.exit(
        f"ops: no torch beside {sys.executable}; install torch first, then"
        " pip install --no-build-isolation ./ops"
    )


HERE = Path(__file__).parent
TORCH = find_torch()
COMMON = [
    "-O3",
    "-std=c++17",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",  # torch 2.10, the oldest that works
    f"-isystem{TORCH / 'include'}",
    f"-isystem{TORCH / 'include/torch/csrc/api/include'}",
]
HOST = ["-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")


def compiler() -> list[str]:
    """The C++ compiler, or a sentence why not."""
    command = shlex.split(os.environ.get("CXX", ""))
    names = [command[0]] if command else ["g++", "clang++", "c++"]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"ops: no C++ compiler ({', '.join(names)}); install g++ or set CXX")
    return [found, *command[1:]]


def toolkit() -> Path | None:
    """The CUDA toolkit that nvcc belongs to; nvcc on PATH may be a shim that lies elsewhere."""
    home = os.environ.get("CUDA_HOME")
    nvcc = Path(home, "bin", "nvcc") if home else shutil.which("nvcc")
    if os.environ.get("MSDA_CUDA") == "0" or not nvcc or not Path(nvcc).exists():
        return None
    dry = subprocess.run([nvcc, "-dryrun", "-c", "x.cu"], capture_output=True, text=True)
    top = re.search(r"^#\$ TOP=(.*)$", dry.stderr, re.MULTILINE)
    return Path(top.group(1)).resolve() if top else Path(nvcc).resolve().parents[1]


def architectures(nvcc: Path) -> list[str]:
    """nvcc's options: machine code of each wished architecture, and PTX of the newest."""
    wish = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    if wish:
        numbers = re.findall(r"(\d+)\.(\d)", wish)
        chosen = [major + minor for major, minor in numbers]
    else:
        known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
        chosen = [number for number in ARCHITECTURES if f"compute_{number}\n" in known]
    codes = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in chosen]
    return [*codes, f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}"]


def run(command: list[str | Path]) -> str:
    """Empty, or the compiler's complaint."""
    print(" ".join(map(str, command)), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout + done.stderr, flush=True)
    return done.stderr if done.returncode else ""


class Build(build_ext):
    """One shared library out of C++ and, where possible, CUDA."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        objects = Path(self.build_temp)
        for folder in (target.parent, objects):
            folder.mkdir(parents=True, exist_ok=True)
        home = toolkit()
        cuda_object = objects / "cuda.o"
        with ThreadPoolExecutor() as pool:
            cpp = pool.submit(self._cpp, objects, "cpu", "csrc/cpu/ms_deform_attn.cpp", [])
            cuda = pool.submit(self._cuda, home, cuda_object) if home else None
            with_cuda = cuda is not None and cuda.result()
            define = ["-DWITH_CUDA"] if with_cuda else []
            doors = self._cpp(objects, "operators", "csrc/operators.cpp", define)
            parts = [cpp.result(), doors]
        flags = [f"-L{TORCH / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu"]
        if with_cuda and home:
            parts.append(cuda_object)
            libraries = home / ("lib64" if (home / "lib64").exists() else "lib")
            flags += [f"-L{libraries}", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]
        if complaint := run([*compiler(), "-shared", *parts, "-o", target, *flags]):
            sys.exit(f"ops: linking failed: {last_line(complaint)}")

    def _cpp(self, folder: Path, name: str, source: str, more: list[str]) -> Path:
        out = folder / f"{name}.o"
        command = [*compiler(), "-c", HERE / source, "-o", out, *COMMON, *HOST, *more]
        if complaint := run(command):
            sys.exit(f"ops: {source} did not compile: {last_line(complaint)}")
        return out

    def _cuda(self, home: Path, out: Path) -> bool:
        source = HERE / "csrc/cuda/ms_deform_attn.cu"
        nvcc = home / "bin" / "nvcc"
        command = [nvcc, "-c", source, "-o", out, "-O3", "-std=c++17", "-t", "0"]
        host = "-Xcompiler=-fPIC,-fvisibility=hidden"
        complaint = run([*command, host, *architectures(nvcc)])
        if complaint and os.environ.get("MSDA_CUDA") == "1":
            sys.exit(f"ops: {source.name} did not compile: {last_line(complaint)}")
        if complaint:
            print(f"ops: without CUDA, nvcc says: {last_line(complaint)}", file=sys.stderr)
        return not complaint


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0]


setup(
    ext_modules=[Extension("MultiScaleDeformableAttention._C", [], py_limited_api=True)],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
