"""What ops/setup.py builds, and says, where something is missing; compilers are stand-ins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPS = Path(__file__).resolve().parents[3] / "ops"
CXX = """#!/bin/sh
echo "$0 $@" >> {log}
while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done
"""
FAILS_TO_LINK = 'case "$*" in *cudart_static*) echo "ld: error: no" >&2; exit 1 ;; esac'
NVCC = """#!/bin/sh
echo "$0 $@" >> {log}
case "$*" in
  *--list-gpu-arch*) for n in {known}; do echo compute_$n; done ;;
  *-dryrun*) echo '#$ TOP={home}' >&2 ;;
  *) {compiles}
esac
"""
GOOD = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done'
BAD = 'echo "x.cu(3): error: no such thing" >&2; exit 2'
NEW = 'echo "host_config.h:1:2: error: #error -- unsupported GNU version! gcc later" >&2; exit 1'


class Toolkit:
    """A folder with a compiler and a CUDA toolkit that only look like it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.home = folder / "cuda"
        (self.home / "bin").mkdir(parents=True)
        (self.home / "lib64").mkdir()
        (self.home / "lib64/libcudart_static.a").write_text("")
        self.write("g++", CXX)
        self.nvcc()

    def write(self, name: str, text: str, **words: object) -> None:
        path = self.folder / name
        path.write_text(text.format(log=self.log, home=self.home, **words))
        path.chmod(0o755)

    def nvcc(self, compiles: str = GOOD, known: str = "75 80 86 90 100 103 120") -> None:
        self.write("cuda/bin/nvcc", NVCC, compiles=compiles, known=known)

    def build(self, **variables: str) -> tuple[list[str], str, bool]:
        """Lines for the user, the commands, and whether the CUDA kernels are there."""
        self.log.write_text("")
        out = self.folder / "out"
        command = ["setup.py", "build_ext", f"--build-lib={out}", f"--build-temp={out}/temp"]
        gone = ("TORCH_CUDA_ARCH_LIST", "MSDA_CUDA", "MAX_JOBS")
        environment = {k: v for k, v in os.environ.items() if k not in gone}
        environment |= {"CXX": str(self.folder / "g++"), "CUDA_HOME": str(self.home)} | variables
        done = subprocess.run(
            [sys.executable, *command], cwd=OPS, env=environment, capture_output=True, text=True
        )
        said = [x for x in done.stderr.splitlines() if x.startswith("ops: ")]
        assert done.returncode == 0 or variables.get("MSDA_CUDA") == "1", done.stderr
        package = out / "MultiScaleDeformableAttention"
        with_cuda = done.returncode == 0 and not (package / "without_cuda.txt").exists()
        return said, self.log.read_text(), with_cuda


@pytest.fixture
def tools(tmp_path: Path) -> Toolkit:
    return Toolkit(tmp_path)


def test_a_whole_toolkit_builds_cuda_in_silence(tools):
    said, commands, with_cuda = tools.build()
    assert said == []
    assert with_cuda
    assert "-DWITH_CUDA" in commands
    assert f"-ccbin {tools.folder}/g++" in commands
    for number in (75, 80, 86, 90, 100, 120):
        assert f"code=sm_{number} " in commands
    assert "code=compute_120" in commands


@pytest.mark.parametrize(
    ("wish", "numbers", "lines"),
    [
        ("8.0;9.0", (80, 90), 0),
        ("12.0 8.0", (80, 120), 0),
        ("8.0+PTX", (80,), 0),
        ("9.0a,10.0f", (90, 100), 0),
        ("Ampere;Hopper", (80, 86, 90), 0),
        ("native", (75, 80, 86, 90, 100, 120), 0),
        ("7.0;8.0", (80,), 1),
        ("Volta", (75, 80, 86, 90, 100, 120), 1),
        ("nonsense;8.6", (86,), 1),
        (" ", (75, 80, 86, 90, 100, 120), 0),
    ],
)
def test_every_arch_list_of_torch_is_understood(tools, wish, numbers, lines):
    said, commands, with_cuda = tools.build(TORCH_CUDA_ARCH_LIST=wish)
    assert with_cuda
    codes = [f"arch=compute_{n},code=sm_{n}" for n in numbers]
    codes.append(f"arch=compute_{numbers[-1]},code=compute_{numbers[-1]}")
    built = next(x for x in commands.splitlines() if "ms_deform_attn.cu" in x)
    assert [x.removeprefix("-gencode=") for x in built.split() if "gencode" in x] == codes
    assert len(said) == lines
    assert all("builds nothing for" in line for line in said)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.nvcc(BAD), "nvcc says: x.cu(3): error: no such thing"),
        (lambda t: t.nvcc(NEW), "g++ is too new for"),
        (lambda t: t.nvcc(known="50"), "--list-gpu-arch names none of"),
        (lambda t: (t.home / "bin/nvcc").unlink(), "has no bin/nvcc"),
        (lambda t: (t.home / "lib64/libcudart_static.a").unlink(), "has no libcudart_static.a"),
    ],
)
def test_without_cuda_the_cpu_kernels_are_built_and_one_line_says_why(tools, change, reason):
    change(tools)
    said, commands, with_cuda = tools.build()
    assert not with_cuda
    assert len(said) == 1
    assert reason in said[0]
    assert "built without CUDA" in said[0]
    note = tools.folder / "out/MultiScaleDeformableAttention/without_cuda.txt"
    assert reason in note.read_text()
    assert "operators.cpp" in commands
    tools.build(MSDA_CUDA="0")
    assert note.read_text() == "MSDA_CUDA is 0\n"
    said, _, _ = tools.build(MSDA_CUDA="1")
    assert len(said) == 1
    assert reason in said[0]
    assert "built without" not in said[0]


def test_kernels_that_cannot_be_linked_are_left_out(tools):
    tools.write("g++", CXX.replace("while", f"{FAILS_TO_LINK}\nwhile"))
    said, _, with_cuda = tools.build()
    assert not with_cuda
    assert "linking failed: ld: error: no" in said[0]
