"""Speed and memory of boundary patch refinement, beside patches that pass through files one by one.

    python tools/bench_refine.py --threads 2
    python tools/bench_refine.py --memory        # 100 instances at 4000x3000, in a fresh process

Random weights of HRNet-18s and drawn blobs; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from maskrefine.bpr import PatchRefiner
from maskrefine.hrnet import VARIANTS, PatchNetwork
from maskrefine.patch_numerics import PATCH_NUMERICS, foreground, network_input
from maskrefine.patches import PatchedMask
from segcore.engine.memory import keep_freed_memory
from segcore.masks import decode, encode
from segcore.structures import Rle, Size

IOU = 0.25
PARTS = ("extract", "files", "network", "merge")


def scene(size: Size, count: int, seed: int = 0) -> tuple[np.ndarray, list[Rle]]:
    """An image and blobs of all sizes in it, as RLEs."""
    rng = np.random.default_rng(seed)
    H, W = size
    image = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
    rles: list[Rle] = []
    for _ in range(count):
        radius, cy, cx = H * rng.uniform(0.02, 0.12), rng.uniform(0, H), rng.uniform(0, W)
        low, high = (
            np.maximum(np.array([cy, cx]) + s * 1.4 * radius, 0).astype(int) for s in (-1, 1)
        )
        part = (slice(low[0], high[0]), slice(low[1], high[1]))
        y, x = np.mgrid[part]
        y, x = y[: H - low[0], : W - low[1]] - cy, x[: H - low[0], : W - low[1]] - cx
        edge = radius * (1 + 0.3 * np.sin(5 * np.arctan2(y, x) + rng.uniform(0, 6)))
        mask = np.zeros(size, bool)
        mask[part] = np.hypot(y, x) < edge
        rles += encode(mask[None])
    return image, rles


class Clock:
    """Seconds by part.

    Args:
        now: wall time, or this process's CPU time where the machine is busy.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self.last = now()

    def lap(self, part: str) -> None:
        """What has passed since the last lap belongs to a part."""
        now = self.now()
        self.spent[part] += now - self.last
        self.last = now


def through_files(
    network: PatchNetwork,
    image: np.ndarray,
    rles: list[Rle],
    folder: Path,
    now: Callable[[], float],
) -> dict[str, float]:
    """Seconds by part of the published way: a PNG triple a patch, then one patch at a time."""
    clock = Clock(now)
    for rle in rles:
        mask = PatchedMask.of(decode(rle), iou_threshold=IOU)
        coarse = mask.patches()
        clock.lap("extract")
        for k, (x0, y0, x1, y1) in enumerate(mask.boxes.tolist()):
            colors, signs = written_and_read(folder, k, image[y0:y1, x0:x1], coarse[k])
            clock.lap("files")
            found = alone(network, colors, signs)
            clock.lap("network")
            mask.add(k, found)
        page = np.zeros(image.shape[:2], bool)
        (y, x), (h, w) = mask.corner, mask.pixels.shape
        page[y : y + h, x : x + w] = mask.stitched()
        encode(page[None])
        clock.lap("merge")
    return clock.spent


def written_and_read(
    folder: Path, k: int, colors: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(s, s, 3) uint8 and (s, s) bool through PNGs; the truth's is there at test time too."""
    grey, names = coarse.astype(np.uint8) * 255, ("image", "coarse", "truth")
    for name, pixels in zip(names, (colors, grey, grey), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}_{k}.png")
    read = [np.array(Image.open(folder / f"{name}_{k}.png")) for name in names]
    return read[0], read[1] > 0


@torch.inference_mode()
def alone(network: PatchNetwork, colors: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """One patch through the network: (s, s) probabilities."""
    numerics, side = PATCH_NUMERICS["batch"], network.input_size
    planes = torch.from_numpy(colors).permute(2, 0, 1)[None]
    given = network_input(numerics.resize_image(planes, side), torch.from_numpy(coarse)[None])
    return numerics.probabilities(foreground(network(given)), side, len(coarse))[0].numpy()


def extraction(rles: list[Rle]) -> Callable[[], int]:
    """Finding all patches, and how many there are."""
    return lambda: sum(len(PatchedMask.of(decode(rle), iou_threshold=IOU).boxes) for rle in rles)


class Stopwatch(PatchRefiner):
    """Sums up what the network's part takes."""

    def __init__(
        self, network: PatchNetwork, precision: torch.dtype, now: Callable[[], float]
    ) -> None:
        super().__init__(network, precision=precision)
        self.now, self.seconds = now, 0.0

    def _probabilities(self, *args) -> np.ndarray:
        start = self.now()
        found = super()._probabilities(*args)
        self.seconds += self.now() - start
        return found


def ours(refiner: Stopwatch, image: np.ndarray, rles: list[Rle]) -> dict[str, float]:
    """Seconds by part; what merging takes is what is left."""
    now, refiner.seconds = refiner.now, 0.0
    start = now()
    extraction(rles)()
    middle = now()
    refiner.refine_rles(image, rles, IOU)
    extract, whole, network = middle - start, now() - middle, refiner.seconds
    return {"extract": extract, "network": network, "merge": max(whole - extract - network, 0.0)}


def compare(repeat: int, instances: int, now: Callable[[], float]) -> None:
    """Median seconds of one 1024x2048 image, in turn."""
    image, rles = scene((1024, 2048), instances)
    network = PatchNetwork(VARIANTS["hrnet18s"]).eval()
    contenders = {
        "in memory, fp32": Stopwatch(network, torch.float32, now),
        "in memory, bf16": Stopwatch(network, torch.bfloat16, now),
    }
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeat + 1):  # the first one warms up
            files = through_files(network, image, rles, Path(folder), now)
            runs.setdefault("through files", []).append(files)
            for name, refiner in contenders.items():
                runs.setdefault(name, []).append(ours(refiner, image, rles))
    table = Table("way", "seconds", "times faster", *PARTS)
    totals = {n: statistics.median(sum(r.values()) for r in rs[1:]) for n, rs in runs.items()}
    for name, each in runs.items():
        parts = {k: statistics.median(r[k] for r in each[1:]) for k in each[0]}
        shares = [f"{parts.get(k, 0):.2f}" for k in PARTS]
        ratio = totals["through files"] / totals[name]
        table.add_row(name, f"{totals[name]:.2f}", f"{ratio:.2f}x", *shares)
    Console(width=100).print(table)
    print(f"{extraction(rles)()} patches, {torch.get_num_threads()} threads, {repeat} runs each")


def memory() -> None:
    """Peak resident memory of 100 instances at 4000x3000, and what it was before."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    image, rles = scene((3000, 4000), 100)
    refiner = PatchRefiner(PatchNetwork(VARIANTS["hrnet18s"]))
    before, start = peak(), time.perf_counter()
    refiner.refine_rles(image, rles, IOU)
    spent, count = time.perf_counter() - start, extraction(rles)()
    print(f"{count} patches in {spent:.0f} s; peak {peak():.2f} GiB, before {before:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy")
    args = parser.parse_args()
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory:
        memory()
    else:
        compare(
            args.repeat, args.instances, time.process_time if args.cpu_time else time.perf_counter
        )
