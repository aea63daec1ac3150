"""Speed on this machine: one image through `Predictor`, one training step; `make bench`.

Where `transformers` can be imported, its Mask2Former runs in turn with ours, so that the ratio
means something on a noisy machine. Random weights; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from segcore.build import build_optimizer, build_task
from segcore.config import load_config
from segcore.data.catalog import dataset_metadata
from segcore.predict import Predictor
from segcore.structures import Targets

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml"
THEIRS: Any = import_module("transformers") if find_spec("transformers") else None


def in_turn(runs: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each, interleaved, after one warm-up each."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(repeat + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i:
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in spent.items()}


def hugging_face() -> Any:
    """Their R50 Mask2Former of the same sizes, random."""
    backbone = THEIRS.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = THEIRS.Mask2FormerConfig(backbone_config=backbone, num_labels=80, num_queries=100)
    return THEIRS.Mask2FormerForUniversalSegmentation(config)


def inference() -> dict[str, Callable[[], object]]:
    """One 800x1216 image, already at its size: pixels to results."""
    image = np.random.default_rng(0).integers(0, 256, (800, 1216, 3), dtype=np.uint8)
    ours = Predictor(CONFIG, "", ["INPUT.MIN_SIZE_TEST", "0"])
    runs: dict[str, Callable[[], object]] = {"ours": lambda: ours(image)}
    if find_spec("transformers"):
        theirs = hugging_face().eval()
        pixels = torch.randn(1, 3, 800, 1216)

        def run() -> None:
            with torch.inference_mode():
                out = theirs(pixel_values=pixels)
                F.interpolate(out.masks_queries_logits, (800, 1216), mode="bilinear")

        runs["transformers"] = run
    return runs


def targets(size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H, W) bool rectangles and their labels."""
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for i in range(count):
        masks[i, i * 40 : i * 40 + 100, i * 30 : i * 30 + 150] = True
    return masks, torch.arange(count)


def training() -> dict[str, Callable[[], object]]:
    """Forward, losses, backward and AdamW at 512x512 with 10 objects, batch 1."""
    cfg = load_config(CONFIG, ["MODEL.WEIGHTS", ""])
    task = build_task(cfg, dataset_metadata(cfg.DATASETS.TRAIN[0], Path("datasets")))
    model = task.model.train()
    optimizer, _ = build_optimizer(cfg, model)
    images = torch.randint(0, 256, (1, 1, 3, 512, 512), dtype=torch.uint8)
    masks, labels = targets(512, 10)
    goal = [Targets(labels, masks[:, None], torch.ones(10, 1, dtype=torch.bool))]
    sizes = torch.tensor([[[512, 512]]])

    def ours(bf16: bool = False) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses = task.losses(model(images, sizes, goal), goal, torch.tensor([10.0, 10.0]))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    runs: dict[str, Callable[[], object]] = {"ours": ours, "ours, bf16": partial(ours, True)}
    if find_spec("transformers"):
        theirs = hugging_face().train()
        their_optimizer = torch.optim.AdamW(theirs.parameters(), 1e-4, fused=True)
        pixels = torch.randn(1, 3, 512, 512)

        def run() -> None:
            out = theirs(pixel_values=pixels, mask_labels=[masks.float()], class_labels=[labels])
            out.loss.sum().backward()
            their_optimizer.step()
            their_optimizer.zero_grad()

        runs["transformers"] = run
    return runs


def main(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    table = Table("what", "who", "seconds, median", "ours is faster by")
    for what, runs in (("inference 800x1216", inference), ("training step 512x512", training)):
        seconds = in_turn(runs(), args.repeat)
        for who, value in seconds.items():
            table.add_row(what, who, f"{value:.2f}", f"{value / seconds['ours']:.2f}x")
    Console().print(table)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads,")
    print(f"torch {torch.__version__}; interleaved, {args.repeat} runs each, random weights")
    if not find_spec("transformers"):
        print("`pip install transformers` puts its Mask2Former beside ours")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    main(parser.parse_args())
