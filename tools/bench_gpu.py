"""One command for a machine with a GPU: builds, checks, times, and writes one table.

    python tools/bench_gpu.py [--no-build] [--tiny] [--only STAGE ...] [--output output/bench_gpu]

Every stage is a process of its own, so that one that fails loses none of the others; what cannot
run says why in one line. Times count only where all checks held. Writes OUTPUT.md, OUTPUT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mask2former.build import build_criterion
from segcore.build.data import catalog, train_metadata
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.structures import Targets
from segcore.whole_file import whole_file

bench = import_module("segcore.cli.bench_contenders")  # by its name, as the command loads it
ROOT = Path(__file__).resolve().parents[1]
CHECKS = ("op-equals-grid-sample", "losses-equal-cpu", "op-tests", "compute-sanitizer")
KINDS = {
    "ours": ("fp32", "bf16", "compiled, fp32", "compiled, bf16"),
    "transformers": ("fp32", "bf16"),
}
LIMIT = 1800  # seconds of a stage
LOSS_BOUND = 1e-2  # relative, of each term; products are summed in another order


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command; without one, why there is none. `result` is its last line where that is JSON."""

    name: str
    command: tuple[str, ...] = ()
    status: str = "skipped"
    why: str = ""
    seconds: float = 0.0
    output: str = ""
    result: dict[str, Any] | None = None


def stages(*, build: bool, tiny: bool) -> list[Stage]:
    """All of them, in order."""
    python, small = sys.executable, ("--size", "64", "64")
    op = (python, str(ROOT / "ops/bench.py"), "--device", "cuda")
    child = (python, str(Path(__file__).resolve()), *["--tiny"] * tiny, "--child")
    sanitizer = shutil.which("compute-sanitizer")
    memcheck = (sanitizer or "", "--tool", "memcheck", "--error-exitcode", "1", *op, "--check")
    pip = (python, "-m", "pip", "install", str(ROOT / "ops"))
    tests = str(ROOT / "tests/segcore/nn/test_op_on_cuda.py")
    todo = [
        Stage(name="build", command=pip) if build else Stage(name="build", why="--no-build"),
        Stage(name=CHECKS[0], command=(*op, "--check", *(small if tiny else ()))),
        Stage(name=CHECKS[1], command=(*child, "losses", "")),
        Stage(name=CHECKS[2], command=(python, "-m", "pytest", "-q", "-m", "not slow", tests))
        if Path(tests).exists()
        else Stage(name=CHECKS[2], why="the tests are not here"),
        Stage(name=CHECKS[3], command=(*memcheck, *small))
        if sanitizer
        else Stage(name=CHECKS[3], why="compute-sanitizer is not on PATH"),
        Stage(name="op", command=(*op, *(("--rounds", "1", *small) if tiny else ()))),
    ]
    for what in ("training", "inference"):
        for project, kinds in KINDS.items():
            for who in (f"{project}, {kind}" for kind in kinds):
                stage = Stage(name=f"{what}: {who}", command=(*child, what, who))
                if project != "ours" and not find_spec(project):
                    stage = Stage(name=stage.name, why=f"{project} is not installed")
                todo.append(stage)
    return todo


def run(stage: Stage) -> Stage:
    """The stage with what came of it."""
    if not stage.command:
        return stage
    start = time.perf_counter()
    environment = os.environ | {"MSDA_CUDA": "1"}  # an op without CUDA is a build that failed
    try:
        done = subprocess.run(
            stage.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return replace(stage, status="failed", why=f"took more than {LIMIT} s", seconds=LIMIT)
    lines = [x for x in (done.stdout + "\n" + done.stderr).splitlines() if x.strip()] or [""]
    last = (done.stdout.strip().splitlines() or [""])[-1]
    stage = replace(stage, seconds=time.perf_counter() - start, output=done.stdout)
    if done.returncode:
        why = f"exit {done.returncode}: {lines[-1].strip()[:200]}"
        return replace(stage, status="failed", why=why)
    return replace(stage, status="ok", result=json.loads(last) if last.startswith("{") else None)


def timed(make: Callable[[], Callable[[], object]], *, tiny: bool) -> dict[str, float]:
    """Milliseconds of one run, the host's time included, and MiB of the GPU at the peak."""
    step = make()
    for _ in range(1 if tiny else 5):  # compiles, chooses convolutions, fills the memory's cache
        step()
    bench.finish()
    spent = []
    for _ in range(2 if tiny else 20):
        start = time.perf_counter()
        step()
        bench.finish()
        spent.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() / 2**20
    return {"ms": statistics.median(spent), "min": min(spent), "max": max(spent), "MiB": peak}


def losses(device: str = "cuda", side: int = 256) -> dict[str, float]:
    """The largest relative difference of a loss on a device from that on the CPU, same points.

    All layers at once on both, as on a GPU.
    """
    torch.manual_seed(0)
    config = load_config(bench.CONFIG, ["MODEL.WEIGHTS", ""])
    task = build_task(config, train_metadata(config, catalog(config)))
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    images = torch.randint(0, 256, (1, 1, 3, side, side), dtype=torch.uint8)
    masks, labels = (x.cpu() for x in bench.targets(side, 4))
    present = torch.ones(4, 1, dtype=torch.bool)

    def on(device: str) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: Any, **given: Any) -> torch.Tensor:
            return torch.rand(*shape, generator=generator).to(given.get("device", "cpu"))

        criterion = build_criterion(config)
        matcher = replace(criterion.matcher, draw=draw)
        criterion = replace(criterion, matcher=matcher, draw=draw, published_order=False)
        goal = [Targets(labels.to(device), masks[:, None].to(device), present.to(device))]
        model = task.model.train().to(device)
        with torch.no_grad():
            outputs = model(images.to(device), torch.full((1, 1, 2), side), goal)
            return criterion(outputs.layers, goal, torch.tensor(4.0, device=device))

    wanted, found = on("cpu"), on(device)
    worst = max((abs(found[k].cpu() - x) / abs(x)).nan_to_num(torch.inf) for k, x in wanted.items())
    return {"difference": float(worst)}


def child(what: str, who: str, *, tiny: bool) -> int:
    """A stage that this file runs itself; its numbers are printed as JSON."""
    if what == "losses":
        found = losses(side=64 if tiny else 256)
        print(json.dumps(found))
        return int(not found["difference"] <= LOSS_BOUND)
    size, batch, image = (128, 1, (64, 96)) if tiny else (1024, 2, (800, 1216))
    makers = {
        "training": lambda: bench.training(who, size, batch),
        "inference": lambda: bench.inference(who, image),
    }
    print(json.dumps(timed(makers[what], tiny=tiny)))
    return 0


def machine() -> dict[str, str]:
    """What it ran on, and when."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm"]
    smi = "nvidia-smi is not on PATH"
    if shutil.which(query[0]):
        done = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True)
        smi = "; ".join((done.stdout or done.stderr).strip().splitlines())
    known = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "GPU": torch.cuda.get_device_name(),
        "nvidia-smi": smi,
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "host": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    for package in ("triton", "transformers", "MultiScaleDeformableAttention"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    return known


def table(known: dict[str, str], done: list[Stage], *, tiny: bool) -> str:
    """The report in Markdown."""
    checks = [stage for stage in done if stage.name in CHECKS[:2]]
    count = len(checks) == 2 and all(stage.status == "ok" for stage in done if stage in checks)
    count &= not any(stage.status == "failed" for stage in done if stage.name in CHECKS)
    size = "128, batch 1; 64x96" if tiny else "1024x1024, batch 2; 800x1216"
    lines = [f"# {known['GPU']}", "", *(f"- {key}: {value}" for key, value in known.items()), ""]
    lines.append("All checks held." if count else "**No time below counts: a check did not hold.**")
    lines += ["", "| stage | result | seconds |", "|---|---|---|"]
    for stage in done:
        why = " ".join(f"{stage.status} {stage.why}".replace("|", "/").split())
        lines.append(f"| {stage.name} | {why} | {stage.seconds:.1f} |")
    lines += ["", f"Training step and inference, {size}; random weights.", ""]
    lines += ["| what | ms, median | from - to | MiB |", "|---|---|---|---|"]
    for stage in done:
        if stage.result and "ms" in stage.result:
            ms, low, high, peak = (stage.result[key] for key in ("ms", "min", "max", "MiB"))
            lines.append(f"| {stage.name} | {ms:.2f} | {low:.2f} - {high:.2f} | {peak:.0f} |")
    op = next((stage.output for stage in done if stage.name == "op"), "")
    return "\n".join([*lines, "", op])


def main() -> int:
    """0: all that could run did; 1: something failed, or there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-build", action="store_true", help="take the op that is installed")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that it runs at all")
    parser.add_argument("--only", nargs="+", help="names of stages, or how they start")
    parser.add_argument("--output", type=Path, default=Path("output/bench_gpu"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that torch can use: nothing was built or timed", file=sys.stderr)
        return 1
    if args.child:
        return child(*args.child, tiny=args.tiny)
    done = []
    for stage in stages(build=not args.no_build, tiny=args.tiny):
        if args.only and not stage.name.startswith(tuple(args.only)):
            continue
        done.append(run(stage))
        print(f"{stage.name}: {done[-1].status} {done[-1].why}", flush=True)
    known = machine()
    text = table(known, done, tiny=args.tiny)
    content = {"machine": known, "stages": [asdict(stage) for stage in done]}
    for ending, written in ((".md", text), (".json", json.dumps(content, indent=1))):
        with whole_file(args.output.with_name(args.output.name + ending), "w") as stream:
            stream.write(written)
    print(text)
    return int(any(stage.status == "failed" for stage in done))


if __name__ == "__main__":
    sys.exit(main())
