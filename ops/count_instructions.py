"""Counts the machine code of the CUDA kernels: warp instructions per (query, head).

python ops/count_instructions.py [--arch 90] [library]. Without a library the .cu file is compiled
for that one architecture. Needs cuobjdump (CUDA toolkit, or the one inside triton's wheel), no GPU.
The case is L=3, P=4, 32 channels, where every loop over points is unrolled: an instruction that is
written once is issued once a warp, and a warp serves as many queries as its groups of lanes.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
# (name, lanes of a group); the template's V, VEC, G, LP, FIXED as the mangled name has them
CASES = {
    "fp32": ("fLi4ELi8ELi12ELb1E", 8),
    "fp16": ("6__halfLi8ELi4ELi12ELb1E", 4),
    "bf16": ("13__nv_bfloat16Li8ELi4ELi12ELb1E", 4),
}
LIMITS = {"forward": 250, "backward": 700}  # fp32, not fused; the old kernel has 1186 and 3460


def tool(name: str) -> str:
    """Path of a CUDA binary utility."""
    if found := shutil.which(name):
        return found
    spec = importlib.util.find_spec("triton")
    if spec and spec.origin:
        inside = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
        if inside.exists():
            return str(inside)
    sys.exit(f"{name} not found; install the CUDA toolkit or triton")


def compiled(arch: str, folder: Path) -> Path:
    """An object file of the kernels for one architecture."""
    if not shutil.which("nvcc"):
        sys.exit("nvcc not found; name a library that was built with it")
    out = folder / "kernels.cubin"
    source = HERE / "csrc/cuda/ms_deform_attn.cu"
    subprocess.run(["nvcc", "-cubin", f"-arch=sm_{arch}", "-O3", "-std=c++17", source, "-o", out],
                   check=True)  # fmt: skip
    return out


def functions(binary: Path, arch: str) -> dict[str, list[str]]:
    """Mangled name -> its instructions."""
    only = [] if binary.suffix == ".cubin" else ["-arch", f"sm_{arch}"]
    done = subprocess.run([tool("cuobjdump"), *only, "-sass", binary], capture_output=True,
                          text=True)  # fmt: skip
    if done.returncode:
        sys.exit(f"cuobjdump: {done.stderr.strip()}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if name := re.search(r"Function : (\S+)", line):
            body = found.setdefault(name.group(1), [])
        elif code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            body.append(code.group(1))
    return found


def issued(body: list[str]) -> list[str]:
    """Up to the last EXIT, without what pads the function."""
    last = max(i for i, code in enumerate(body) if "EXIT" in code)
    opcodes = [re.sub(r"^@!?U?P\w+ ", "", code).split()[0] for code in body[: last + 1]]
    return [code for code in opcodes if code != "NOP"]


def row(name: str, body: list[str], lanes: int) -> tuple[str, float]:
    codes = issued(body)
    per_query = len(codes) / (32 // lanes)
    kinds = Counter(code.split(".")[0] for code in codes)
    wide = sum("LDG" in code and ".128" in code for code in codes)
    reds = Counter(code for code in codes if code.startswith(("RED", "ATOM")))
    spills = kinds["STL"] + kinds["LDL"]
    red = ", ".join(f"{count} {code}" for code, count in reds.items()) or "-"
    cells = [name, f"{per_query:.0f}", f"{wide} of {kinds['LDG']}", kinds["SHFL"], red, spills]
    return f"| {' | '.join(map(str, cells))} |", per_query


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", nargs="?", type=Path)
    parser.add_argument("--arch", default="90")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = functions(args.library or compiled(args.arch, Path(folder)), args.arch)
    print(f"sm_{args.arch}, L=3, P=4, 32 channels")
    print("| kernel | warp instructions per (query, head) | 128-bit loads | shuffles | reductions "
          "| spills |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    failed = False
    for direction, limit in LIMITS.items():
        for dtype, (mangled, lanes) in CASES.items():
            for fused in (0, 1):
                tag = f"{len(direction)}{direction}I{mangled}Lb{fused}E"
                body = next((body for name, body in found.items() if tag in name), None)
                if body is None:
                    sys.exit(f"no kernel {tag} in the binary")
                name = f"{direction} {dtype}{' fused' if fused else ''}"
                text, count = row(name, body, lanes)
                print(text)
                failed |= dtype == "fp32" and not fused and count > limit
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
