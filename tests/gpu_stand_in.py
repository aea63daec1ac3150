"""A GPU for programs that tests start: torch's own CUDA over memory of the host (gpu_stand_in/).

Kernels do nothing, so numbers mean nothing; devices, streams, waits and collectives do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

SOURCES = sorted(Path(__file__).with_name("gpu_stand_in").glob("*.cpp"))
SITE = Path(sysconfig.get_path("purelib"))
HEADERS = (  # pip's torch with CUDA brings them; Triton has those that are missing there
    *SITE.glob("nvidia/cu[0-9]*/include"),
    SITE / "triton/backends/nvidia/include",
)
WANTED = re.compile(r"(__)?(cuda|cublas|cudnn|cufft|cusparse|curand|nccl)|cu[A-Z]")


def skip_reason() -> str:
    """Why it cannot be built here, or nothing."""
    if torch.version.cuda is None or not torch.version.cuda.startswith("13."):
        return "needs a torch with CUDA 13"
    if not shutil.which("g++") or not shutil.which("nm"):
        return "needs g++ and nm"
    if len(HEADERS) < 2 or not HEADERS[-1].exists():
        return "needs the headers of pip's nvidia packages and Triton"
    return ""


def build(folder: Path) -> Path:
    """libgpu_stand_in.so in `folder`: what SOURCES define, and 0 from all else that torch wants."""
    torch_lib = Path(torch.__file__).parent / "lib"
    libraries = [p for p in torch_lib.glob("lib*.so") if re.search("cuda|python|nvrtc", p.name)]
    listed = _symbols(["--undefined-only", *libraries])
    wanted = {name for name in listed if WANTED.match(name)}
    objects = []
    for source in SOURCES:
        objects.append(folder / f"{source.stem}.o")
        _compile(["-c", source, "-o", objects[-1]])
    rest = wanted - _symbols(["--defined-only", *objects], "--extern-only")
    (folder / "rest.cpp").write_text(
        "".join(f'extern "C" int {name}(...) {{ return 0; }}\n' for name in sorted(rest))
    )
    library = folder / "libgpu_stand_in.so"
    # under the driver's name, so that it is found loaded where torch asks for that
    options = ["-shared", "-Wl,-soname,libcuda.so.1", "-lpthread", "-lrt"]
    _compile([*objects, folder / "rest.cpp", "-o", library, *options])
    return library


def environment(library: Path, gpus: int = 1) -> dict[str, str]:
    """For a program that shall see `gpus` of them."""
    known = {"LD_PRELOAD": str(library), "STAND_IN_GPUS": str(gpus)}
    return os.environ | known | {"TORCH_CUDNN_V8_API_DISABLED": "1"}  # v7's needs fewer functions


def run(library: Path, code: str, *args: object, gpus: int = 1) -> str:
    """What Python code prints under the stand-in; fails the test where it fails."""
    return _output(library, gpus, "-c", code, *args)


def run_file(library: Path, script: Path, *args: object, gpus: int = 1) -> str:
    """As `run`, of a file: a program that starts itself anew needs one."""
    return _output(library, gpus, script, *args)


def _output(library: Path, gpus: int, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment(library, gpus),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}")
    return done.stdout


def _symbols(where: list[object], kind: str = "--dynamic") -> set[str]:
    listed = subprocess.run(
        ["nm", kind, *map(str, where)], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in listed.stdout.splitlines()]
    return {words[-1].split("@")[0] for words in lines if len(words) > 1}


def _compile(words: list[object]) -> None:
    headers = [f"-I{folder}" for folder in HEADERS]
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-w", *headers, *map(str, words)]
    subprocess.run(command, check=True)
