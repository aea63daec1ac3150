"""Speed of the mask refiners' host and of Mask Transfiner's encoder, each beside the usual way.

    python tools/bench_detector.py --threads 2
    python tools/bench_detector.py --threads 1 --cpu-time   # where the machine is busy

Mask R-CNN beside torchvision's `maskrcnn_resnet50_fpn`: one 800x1216 image, pixels to 100 masks.
The encoder: ten boxes at once beside one after the other. Random weights; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

from maskrefine.token_encoder import TokenEncoder
from segcore.engine.memory import keep_freed_memory
from segcore.engine.part_times import peak_gflops
from segcore.predict import Predictor
from segcore.shipped import config_file

CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
SIZE = (800, 1216)
TOKENS = (300, 1200)  # of a box; Transfiner's at 112x112 are the pixels along an outline
BOXES, CHANNELS = 10, 256


def detectors() -> dict[str, Callable[[], object]]:
    """Pixels to results of both, with as many detections as there may be."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    opts = ["INPUT.MIN_SIZE_TEST", "0", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    ours = Predictor(config_file(CONFIG), "", [*opts, "MODEL.DEVICE", "cpu"])
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=81, box_score_thresh=0.0
    ).eval()
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255

    def run() -> None:
        with torch.inference_mode():
            theirs([pixels])

    return {"torchvision": run, "ours": partial(ours, image)}


def encoders() -> dict[str, Callable[[], Tensor]]:
    """Ten boxes' tokens through the encoder: box by box, and at once."""
    encoder, rng = TokenEncoder().eval(), np.random.default_rng(0)
    lengths = torch.from_numpy(rng.integers(*TOKENS, BOXES))
    box = torch.arange(BOXES).repeat_interleave(lengths)
    features, code = torch.randn(2, len(box), CHANNELS)
    coarse = torch.rand(len(box))
    parts = [x.split(lengths.tolist()) for x in (features, coarse, code, torch.zeros_like(box))]

    @torch.inference_mode()
    def loop() -> Tensor:
        return torch.cat([encoder(*tokens, 1) for tokens in zip(*parts, strict=True)])

    @torch.inference_mode()
    def at_once(precision: torch.dtype) -> Tensor:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            return encoder(features, coarse, code, box, BOXES)

    return {
        "box by box": loop,
        "at once": partial(at_once, torch.float32),
        "at once, bf16": partial(at_once, torch.bfloat16),
    }


def compare(
    contenders: Mapping[str, Callable[[], object]], repeat: int, now: Callable[[], float]
) -> Table:
    """Seconds of each, in turn, beside the first."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeat + 1):  # the first one warms up
        for name, run in contenders.items():
            start = now()
            run()
            spent[name].append(now() - start)
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}
    first = next(iter(medians.values()))
    table = Table("", "seconds, median", "least", "most", "times faster than the first")
    for name, median in medians.items():
        low, high = min(spent[name][1:]), max(spent[name][1:])
        table.add_row(name, f"{median:.2f}", f"{low:.2f}", f"{high:.2f}", f"{first / median:.2f}x")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy")
    args = parser.parse_args()
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    for parts in (detectors(), encoders()):
        Console(width=100).print(compare(parts, args.repeat, clock))
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; a product of 4096x4096"
        f" float32 matrices: {peak_gflops(torch.device('cpu')):.0f} GFLOP/s"
    )
