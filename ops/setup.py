"""Builds the kernels with the C++ compiler, and with nvcc where there is one.

torch's own extension builder wants a torch with CUDA to build CUDA; the stable ABI does not, so
the compilers are called directly. Environment: CXX (nvcc's host compiler too), CUDA_HOME,
TORCH_CUDA_ARCH_LIST ("8.0;9.0"), MAX_JOBS of nvcc, MSDA_CUDA=0 (never) or 1 (fail where it cannot
be built).
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
CPU = ("ms_deform_attn", "encode_masks", "paint_entities", "winograd", "group_norm", "sample_masks")
HOST = ["-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
NAMED = {  # words that TORCH_CUDA_ARCH_LIST may have, without those of small boards
    "Volta": ("7.0",),
    "Turing": ("7.5",),
    "Ampere": ("8.0", "8.6"),
    "Ada": ("8.9",),
    "Hopper": ("9.0",),
    "Blackwell": ("10.0", "12.0"),
    **dict.fromkeys(("native", "common", "all", "all-major"), ARCHITECTURES),
}


class CudaError(Exception):
    """Why there can be no CUDA kernels: one line."""


def compiler() -> list[str]:
    """The C++ compiler, or a sentence why not."""
    command = shlex.split(os.environ.get("CXX", ""))
    names = [command[0]] if command else ["g++", "clang++", "c++"]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"ops: no C++ compiler ({', '.join(names)}); install g++ or set CXX")
    return [found, *command[1:]]


def toolkit() -> Path:
    """The CUDA toolkit that nvcc belongs to; nvcc on PATH may be a shim that lies elsewhere."""
    if os.environ.get("MSDA_CUDA") == "0":
        raise CudaError("MSDA_CUDA is 0")
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which(Path(home, "bin", "nvcc") if home else "nvcc")
    if not nvcc:
        raise CudaError(f"CUDA_HOME {home} has no bin/nvcc" if home else "there is no nvcc on PATH")
    try:
        dry = subprocess.run([nvcc, "-dryrun", "-c", "x.cu"], capture_output=True, text=True)
    except OSError as error:
        raise CudaError(f"{nvcc} cannot be run ({error})") from None
    top = re.search(r"^#\$ TOP=(.*)$", dry.stderr, re.MULTILINE)
    return Path(top.group(1)).resolve() if top else Path(nvcc).resolve().parents[1]


def static_runtime(home: Path) -> Path:
    """The folder of libcudart_static.a."""
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        if (home / folder / "libcudart_static.a").exists():
            return home / folder
    raise CudaError(f"{home} has no libcudart_static.a; install cuda-cudart-dev, or a full toolkit")


def architectures(nvcc: Path) -> list[str]:
    """nvcc's options: machine code of each wished architecture, and PTX of the newest."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    known = {f"{n[:-1]}.{n[-1]}" for n in re.findall(r"compute_(\d+)\b", listed)}
    wish = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    words = re.split(r"[;,\s]+", wish.strip()) if wish.strip() else ["common"]
    wished, unknown = list[str](), list[str]()
    for word in words:
        number = re.fullmatch(r"(\d+\.\d)[af]?(\+PTX)?", word)
        found = (number[1],) if number else NAMED.get(word.removesuffix("+PTX"), ())
        usable = [n for n in found if n in known]
        wished += usable
        unknown += [] if usable else [word]
    chosen = sorted(set(wished), key=float) or [n for n in ARCHITECTURES if n in known]
    if not chosen:
        raise CudaError(f"{nvcc} --list-gpu-arch names none of {', '.join(ARCHITECTURES)}")
    if unknown:
        say(
            f"this nvcc builds nothing for {' '.join(unknown)} of TORCH_CUDA_ARCH_LIST; built for"
            f" {' '.join(chosen)}"
        )
    numbers = [n.replace(".", "") for n in chosen]
    codes = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    return [*codes, f"-gencode=arch=compute_{numbers[-1]},code=compute_{numbers[-1]}"]


def say(line: str) -> None:
    """For whoever reads the build's output: `make setup` shows these lines."""
    print(f"ops: {line}", file=sys.stderr, flush=True)


def run(command: list[str | Path]) -> str:
    """Empty, or the compiler's complaint."""
    print(" ".join(map(str, command)), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout + done.stderr, flush=True)
    return (done.stderr or f"exit code {done.returncode}") if done.returncode else ""


class Build(build_ext):
    """One shared library out of C++ and, where possible, CUDA."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        for folder in (target.parent, Path(self.build_temp)):
            folder.mkdir(parents=True, exist_ok=True)
        missing = target.with_name("without_cuda.txt")  # which is read at run time
        missing.unlink(missing_ok=True)
        with ThreadPoolExecutor() as pool:
            cpu = [pool.submit(self._cpp, name, f"csrc/cpu/{name}.cpp") for name in CPU]
            try:
                cuda, flags = self._cuda()
                doors = self._cpp("operators", "csrc/operators.cpp", "-DWITH_CUDA")
                self._link(target, [*(x.result() for x in cpu), doors, cuda], flags)
            except CudaError as error:
                if os.environ.get("MSDA_CUDA") == "1":
                    sys.exit(f"ops: {error}")
                say(f"built without CUDA: {error}; on a GPU Triton's kernels take over")
                missing.write_text(f"{error}\n")
                doors = self._cpp("operators", "csrc/operators.cpp")
                try:
                    self._link(target, [*(x.result() for x in cpu), doors], [])
                except CudaError as problem:
                    sys.exit(f"ops: {problem}")

    def _link(self, target: Path, parts: list[Path], more: list[str | Path]) -> None:
        flags = [f"-L{TORCH / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", *more]
        if complaint := run([*compiler(), "-shared", *parts, "-o", target, *flags]):
            raise CudaError(f"linking failed: {first_error(complaint)}")

    def _cpp(self, name: str, source: str, *more: str) -> Path:
        out = Path(self.build_temp, f"{name}.o")
        command = [*compiler(), "-c", HERE / source, "-o", out, *COMMON, *HOST, *more]
        if complaint := run(command):
            sys.exit(f"ops: {source} did not compile: {first_error(complaint)}")
        return out

    def _cuda(self) -> tuple[Path, list[str | Path]]:
        """The kernels' object, and what it is linked with."""
        home, out = toolkit(), Path(self.build_temp, "cuda.o")
        nvcc, runtime = home / "bin" / "nvcc", static_runtime(home)
        command = [nvcc, "-c", HERE / "csrc/cuda/ms_deform_attn.cu", "-o", out, "-O3", "-std=c++17"]
        jobs = os.environ.get("MAX_JOBS", "0")  # 0: as many as there are cores
        host = ["-ccbin", compiler()[0], "-Xcompiler=-fPIC,-fvisibility=hidden"]
        complaint = run([*command, "-t", jobs, *host, *architectures(nvcc)])
        if "unsupported GNU version" in complaint or "unsupported clang version" in complaint:
            raise CudaError(f"{compiler()[0]} is too new for {nvcc}; set CXX to an older one")
        if complaint:
            raise CudaError(f"nvcc says: {first_error(complaint)}")
        return out, [f"-L{runtime}", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]


def first_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0].strip() if lines else "nothing"


setup(
    ext_modules=[Extension("MultiScaleDeformableAttention._C", [], py_limited_api=True)],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
