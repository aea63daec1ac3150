"""Speed on this machine: one image through `Predictor`, one training step; the command.

Where `transformers` can be imported, its Mask2Former runs in turn with ours, so that the ratio
means something on a noisy machine; both on the GPU, where there is one. Random weights; nothing is
downloaded.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from segcore.build.data import catalog, train_metadata
from segcore.build.solver import build_optimizer
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.engine.device import choose_device
from segcore.engine.memory import keep_freed_memory
from segcore.engine.part_times import peak_gflops
from segcore.predict import Predictor
from segcore.shipped import config_file
from segcore.structures import Targets

CONFIG = config_file("coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml")
HELP = [sys.executable, "-c", "from segcore.cli.main import main; main()", "--help"]


def main(*, repeat: int, threads: int) -> int:
    """Print what was measured.

    Args:
        repeat: runs of each; the median counts.
        threads: of torch; 0 leaves it to torch.
    """
    projects = ["ours"] + ["transformers"] * bool(find_spec("transformers"))
    if threads:
        torch.set_num_threads(threads)
    names = [f"{project}, {kind}" for project in projects for kind in ("fp32", "bf16")]
    table = Table("what", "who", "seconds, median", "times ours, fp32")
    for title, what in (("inference 800x1216", "inference"), ("training step 512x512", "training")):
        seconds = in_turn(what, names, repeat, threads)
        for who, value in seconds.items():
            table.add_row(title, who, f"{value:.2f}", f"{value / seconds[names[0]]:.2f}x")
    table.add_row("segcore --help", "ours", f"{help_seconds(repeat):.2f}", "")
    Console(width=90).print(table)
    print(f"{machine()}, {torch.get_num_threads()} threads,")
    print(f"a product of 4096x4096 float32 matrices: {peak_gflops(device()):.0f} GFLOP/s;")
    print(f"torch {torch.__version__}; interleaved, {repeat} runs each, random weights")
    if not find_spec("transformers"):
        print("`pip install transformers` puts its Mask2Former beside ours")
    return 0


def machine() -> str:
    """What it is measured on."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def help_seconds(repeat: int) -> float:
    """Median seconds until the command has said what it can do."""
    spent = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def contender(what: str, who: str, threads: int, orders: Connection) -> None:
    """A process of its own: at each order one run, and back go its seconds."""
    if threads:
        torch.set_num_threads(threads)
    run = {"inference": inference, "training": training}[what](who)
    run()
    finish()
    orders.send(0.0)
    while orders.recv():
        start = time.perf_counter()
        run()
        finish()
        orders.send(time.perf_counter() - start)


def in_turn(what: str, names: list[str], repeat: int, threads: int) -> dict[str, float]:
    """Median seconds of each, interleaved; each in its own process, as its users run it."""
    start, pipes = get_context("spawn"), {}
    for name in names:
        pipes[name], theirs = Pipe()
        start.Process(target=contender, args=(what, name, threads, theirs), daemon=True).start()
        theirs.close()
        pipes[name].recv()
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeat):
        for name, pipe in pipes.items():
            pipe.send(True)
            spent[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return {name: statistics.median(times) for name, times in spent.items()}


def device() -> torch.device:
    """Everybody's."""
    return choose_device("auto")


def finish() -> None:
    """Wait for a GPU, which is only told what to do."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def mixed(who: str) -> torch.autocast:
    """Products in bf16 where the contender's name says so."""
    return torch.autocast(device().type, torch.bfloat16, enabled=who.endswith("bf16"))


def hugging_face() -> Any:
    """Their R50 Mask2Former of the same sizes, random, on the device."""
    theirs: Any = import_module("transformers")
    backbone = theirs.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = theirs.Mask2FormerConfig(backbone_config=backbone, num_labels=80, num_queries=100)
    return theirs.Mask2FormerForUniversalSegmentation(config).to(device())


def inference(who: str, size: tuple[int, int] = (800, 1216)) -> Callable[[], object]:
    """One image, already at its size: pixels to results."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    if who.startswith("ours"):
        keep_freed_memory()  # as `segcore predict` does
        opts = ["INPUT.MIN_SIZE_TEST", "0", "TEST.PRECISION", who.rpartition(", ")[2]]
        opts += ["MODEL.DEVICE", device().type, "MODEL.COMPILE", str("compiled" in who)]
        return partial(Predictor(CONFIG, "", opts), image)
    theirs, pixels = hugging_face().eval(), torch.randn(1, 3, *size, device=device())

    def run() -> None:
        with torch.inference_mode(), mixed(who):
            out = theirs(pixel_values=pixels)
            F.interpolate(out.masks_queries_logits, size, mode="bilinear")

    return run


def targets(size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H, W) bool rectangles and their labels."""
    masks = torch.zeros(count, size, size, dtype=torch.bool, device=device())
    for i in range(count):
        masks[i, i * 40 : i * 40 + 100, i * 30 : i * 30 + 150] = True
    return masks, torch.arange(count, device=device())


def training(who: str, size: int = 512, batch: int = 1) -> Callable[[], None]:
    """Forward, losses, backward and AdamW of square images with 10 objects each."""
    step = our_step if who.startswith("ours") else their_step
    return step(*targets(size, 10), batch, who)


def our_step(masks: torch.Tensor, labels: torch.Tensor, batch: int, who: str) -> Callable[[], None]:
    keep_freed_memory()  # as `segcore train` does
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", "", "MODEL.COMPILE", str("compiled" in who)])
    task = build_task(cfg, train_metadata(cfg, catalog(cfg)))
    model = task.model.train().to(device())
    optimizer, _ = build_optimizer(cfg, task)
    size, count = masks.shape[-1], float(batch * len(labels))
    shape = (batch, 1, 3, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device())
    present = torch.ones_like(labels[:, None], dtype=torch.bool)
    goal = [Targets(labels, masks[:, None], present)] * batch
    sizes, counts = torch.full((batch, 1, 2), size), torch.tensor([count, count], device=device())

    def run() -> None:
        with mixed(who):
            losses = task.losses(model(images, sizes, goal), goal, counts)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def their_step(
    masks: torch.Tensor, labels: torch.Tensor, batch: int, who: str
) -> Callable[[], None]:
    theirs = hugging_face().train()
    optimizer = torch.optim.AdamW(theirs.parameters(), 1e-4, fused=True)
    pixels = torch.randn(batch, 3, *masks.shape[-2:], device=device())
    goal = {"mask_labels": [masks.float()] * batch, "class_labels": [labels] * batch}

    def run() -> None:
        with mixed(who):
            out = theirs(pixel_values=pixels, **goal)
        out.loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run
