"""One table: every implementation of the sampling op that is installed, taken in turn.

python ops/bench.py [--size 1024 1024] [--batch 1] [--threads 2] [--rounds 7] [--device auto]
python ops/bench.py --check  # no times: ours beside grid_sample, outputs and gradients

Levels are 1/32, 1/16, 1/8 of the size, 8 heads of 32 channels, 4 points, one query per token, as in
Mask2Former's pixel decoder. `local` locations are the initial grid + N(0, 1.5 px), as a network has
them; `uniform` are anywhere, which defeats every cache. Medians of interleaved rounds; a ratio is
the median of the rounds' ratios, so that a busy machine harms both sides. On CUDA each call is
replayed from a CUDA graph. `floor` is the time to read the inputs and write the outputs once at the
copy rate that the same run measures. Rows marked glue start from offsets and logits.
"""

import argparse
import functools
import importlib.util
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path[0] = str(Path(__file__).parents[1])  # not ops/: the package there has no library

from segcore.nn import ms_deform_attn as door  # noqa: E402

HEADS, CHANNELS, LEVELS, POINTS = 8, 32, 3, 4
Run = Callable[[], Any]


@dataclass
class Case:
    """Inputs of one distribution of locations."""

    name: str
    shapes: list[int]
    value: Tensor  # (B, S, heads, C)
    reference: Tensor  # (1, S, 1, 2)
    offsets: Tensor  # (B, S, heads, L, P, 2)
    logits: Tensor  # (B, S, heads, L*P)
    locations: Tensor
    weights: Tensor
    grad: Tensor  # (B, S, heads*C)

    def leaves(self, *names: str) -> list[Tensor]:
        return [getattr(self, name).detach().requires_grad_() for name in names]


def make_case(name: str, size: list[int], batch: int, device: str) -> Case:
    shapes = [math.ceil(side / stride) for stride in (32, 16, 8) for side in size]
    sides = list(zip(shapes[::2], shapes[1::2], strict=True))
    generator = torch.Generator().manual_seed(0)
    centres = [
        torch.stack(torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w,
                                   indexing="ij")[::-1], -1).flatten(0, 1)
        for h, w in sides
    ]  # fmt: skip
    reference = torch.cat(centres)[None, :, None]
    S = reference.shape[1]
    shape = (batch, S, HEADS, LEVELS, POINTS, 2)
    angle = torch.arange(HEADS) * (2 * math.pi / HEADS)
    way = torch.stack((angle.cos(), angle.sin()), -1)
    way = way / way.abs().amax(-1, keepdim=True)
    start = way[:, None, None] * torch.arange(1, POINTS + 1)[:, None]  # (heads, 1, P, 2)
    offsets = start + 1.5 * torch.randn(shape, generator=generator)
    if name == "uniform":
        wide = torch.tensor([[w, h] for h, w in sides]).view(LEVELS, 1, 2)
        anywhere = torch.rand(shape, generator=generator)
        offsets = (anywhere - reference[:, :, None, :, None]) * wide
    value = torch.randn(batch, S, HEADS, CHANNELS, generator=generator)
    logits = torch.randn(batch, S, HEADS, LEVELS * POINTS, generator=generator)
    grad = torch.randn(batch, S, HEADS * CHANNELS, generator=generator)
    value, reference, offsets, logits, grad = (
        x.to(device) for x in (value, reference, offsets, logits, grad)
    )
    locations = door._locations(reference, shapes, offsets)
    weights = door._weights(logits, offsets).contiguous()
    return Case(
        name, shapes, value, reference, offsets, logits, locations, weights, grad
    )  # fmt: skip


def grid_sample(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
    """The usual decomposition: all samples of all levels side by side, then the weighted sum."""
    B, Q = locations.shape[:2]
    sides = list(zip(shapes[::2], shapes[1::2], strict=True))
    levels = value.flatten(2).split([h * w for h, w in sides], dim=1)
    grids = 2 * locations - 1
    samples = []
    for i, (h, w) in enumerate(sides):
        maps = levels[i].transpose(1, 2).reshape(B * HEADS, CHANNELS, h, w)
        grid = grids[:, :, :, i].transpose(1, 2).flatten(0, 1)
        samples.append(F.grid_sample(maps, grid, align_corners=False))  # (B*heads, C, Q, P)
    weight = weights.transpose(1, 2).reshape(B * HEADS, 1, Q, LEVELS * POINTS)
    out = (torch.stack(samples, -2).flatten(-2) * weight).sum(-1)
    return out.view(B, HEADS * CHANNELS, Q).transpose(1, 2).contiguous()


def glued(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Softmax and location arithmetic in front of it, in PyTorch."""

    def whole(
        value: Tensor, shapes: list[int], reference: Tensor, offsets: Tensor, logits: Tensor
    ) -> Tensor:
        weights = logits.softmax(-1).unflatten(-1, (LEVELS, POINTS))
        return sample(value, shapes, door._locations(reference, shapes, offsets), weights)

    return whole


def with_tensors(theirs: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    """The old signature, shapes and starts as tensors that are made before the clock runs."""

    @functools.cache
    def sides(shapes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(shapes, device=device).view(-1, 2)
        return sizes, torch.cat((sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]))

    def call(value: Tensor, shapes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
        return theirs(value, *sides(tuple(shapes)), locations, weights)

    return call


def others(device: str) -> dict[str, Callable[..., Tensor]]:
    """What else is installed, with our signature."""
    found: dict[str, Callable[..., Tensor]] = {}
    if importlib.util.find_spec("torch_ms_deform_attn"):  # on CUDA the old kernel's arithmetic
        import torch_ms_deform_attn  # pyright: ignore[reportMissingImports]

        found["torch-ms-deform-attn"] = with_tensors(torch_ms_deform_attn.ms_deform_attn, device)
    if device == "cuda" and importlib.util.find_spec("deformops"):
        from deformops.registry import msda  # pyright: ignore[reportMissingImports]

        found["deformops"] = with_tensors(msda, device)
    if device == "cuda" and importlib.util.find_spec("triton"):
        from segcore.nn import ms_deform_attn_triton as kernels

        class Triton(torch.autograd.Function):
            @staticmethod
            def forward(ctx, value, shapes, locations, weights):
                ctx.shapes = shapes
                ctx.save_for_backward(value, locations, weights)
                return kernels.forward(value, shapes, locations, weights)

            @staticmethod
            def backward(ctx, grad):
                value, locations, weights = ctx.saved_tensors
                grads = kernels.backward(grad, value, ctx.shapes, locations, weights)
                return grads[0], None, *grads[1:]

        found["ours, Triton"] = Triton.apply
    return found


def contenders(case: Case) -> dict[str, tuple[Run, Run]]:
    """Name -> forward, and forward + backward. The first, and the first with glue, are the bars."""
    plain = {"grid_sample": grid_sample, **others(case.value.device.type)}
    plain["ours"] = door.ms_deform_attn
    fused = {"glue + grid_sample": glued(grid_sample), "glue + ours": glued(door.ms_deform_attn)}
    fused["ours, fused"] = door.deform_attn
    runs: dict[str, tuple[Run, Run]] = {}
    for name, function in plain.items():
        inputs = case.leaves("value", "locations", "weights")
        runs[name] = pair(function, inputs, case)
    half = [case.value.bfloat16().requires_grad_(), *case.leaves("locations", "weights")]
    runs["ours, bf16 value"] = pair(door.ms_deform_attn, half, case)
    for name, function in fused.items():
        value, offsets, logits = case.leaves("value", "offsets", "logits")
        runs[name] = pair(function, [value, case.reference, offsets, logits], case)
    return runs


def pair(function: Callable[..., Tensor], inputs: list[Tensor], case: Case) -> tuple[Run, Run]:
    leaves = [x for x in inputs if x.requires_grad]
    grad = case.grad.to(inputs[0].dtype)

    def forward() -> object:
        with torch.no_grad():
            return function(inputs[0], case.shapes, *inputs[1:])

    def both() -> object:
        out = function(inputs[0], case.shapes, *inputs[1:])
        return torch.autograd.grad(out, leaves, grad)

    return forward, both


def timer(run: Run, device: str) -> Callable[[], float]:
    """Seconds of one run, warmed up; on CUDA of a graph's replay."""
    if device == "cpu":
        run()

        def seconds() -> float:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start

        return seconds
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def replay() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(20):
            graph.replay()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 20e3

    return replay


def copy_rate(device: str) -> float:
    """Bytes per second of reading and writing once."""
    source = torch.empty(256 << 20, dtype=torch.uint8, device=device)
    target = source.clone()
    seconds = timer(lambda: target.copy_(source), device)
    return 2 * source.numel() / min(seconds() for _ in range(5))


def floors(case: Case, name: str) -> tuple[int, int]:
    """Bytes that the forward, and forward + backward, cannot avoid."""
    value = case.value.numel() * (2 if "bf16" in name else 4)
    points = 4 * (case.locations.numel() + case.weights.numel())
    out = case.grad.numel() * (2 if "bf16" in name else 4)
    forward = value + points + out
    return forward, forward + 2 * value + 2 * points + out


def measure(case: Case, rounds: int, rate: float) -> None:
    device = case.value.device.type
    runs = contenders(case)
    for which, label in enumerate(("forward", "forward + backward")):
        timers = {name: timer(both[which], device) for name, both in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in timers}
        for _ in range(rounds):
            for name, seconds in timers.items():
                times[name].append(seconds())
        for name, own in times.items():
            bar = "glue + grid_sample" if "glue" in name or "fused" in name else "grid_sample"
            ratio = statistics.median(a / b for a, b in zip(times[bar], own, strict=True))
            median = statistics.median(own)
            floor = floors(case, name)[which] / rate
            print(
                f"| {case.name} | {label} | {name} | {1e3 * median:.4g} | {ratio:.1f} | "
                f"{1e3 * floor:.3g} | {median / floor:.0f} |"
            )


def check(case: Case) -> bool:
    """Whether ours equal grid_sample: the difference's norm over the norm, of each tensor.

    A location beside a pixel's centre may fall to its other side, where its gradient is another
    one; so a gradient in float32 has the bound of bf16.
    """
    runs, good = contenders(case), True
    for name, (_, both) in runs.items():
        fused = "glue" in name or "fused" in name
        bar = runs["glue + grid_sample" if fused else "grid_sample"]
        if not name.startswith(("ours", "glue + ours")):
            continue
        found, wanted = (runs[name][0](), *both()), (bar[0](), *bar[1]())
        errors = [
            (torch.dist(a.float(), b) / b.norm()).item() for a, b in zip(found, wanted, strict=True)
        ]
        bounds = [1e-2 if "bf16" in name else 1e-4] + [1e-2] * (len(errors) - 1)
        holds = all(error <= bound for error, bound in zip(errors, bounds, strict=True))
        print(f"{case.name}, {name}: {'equal' if holds else 'DIFFERENT'},",
              *(f"{error:.1e}" for error in errors))  # fmt: skip
        good &= holds
    return good


def machine(device: str) -> str:
    name = platform.processor() or platform.machine()
    if device == "cuda":
        name = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.split(": ")[1] for x in lines if x.startswith("model name")), name)
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 1024], metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--check", action="store_true", help="equal to grid_sample? no times")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.check:
        cases = [make_case(name, args.size, args.batch, device) for name in ("local", "uniform")]
        held = [check(case) for case in cases]
        sys.exit(not all(held))
    rate = copy_rate(device)
    threads = f", {args.threads} threads" if device == "cpu" else ""
    print(f"{machine(device)}{threads}; {args.size[0]}x{args.size[1]}, batch {args.batch}; "
          f"copies at {rate / 1e9:.1f} GB/s")  # fmt: skip
    print("| locations | pass | implementation | ms | x faster than grid_sample | floor ms "
          "| x floor |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name in ("local", "uniform"):
        measure(make_case(name, args.size, args.batch, device), args.rounds, rate)


if __name__ == "__main__":
    main()
