"""Program for the GPU that is none (gpu_stand_in.py): GPU calls and host waits of training steps.

    gpu_step.py CONFIG BATCHxSEGMENTS ...

prints calls, waits and bytes of pageable memory to the GPU, one line a batch.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

from segcore.build.solver import build_optimizer
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.engine.launch import launch
from segcore.engine.optim import Clipping
from segcore.engine.trainer import Trainer
from segcore.structures import Batch, Frame, Metadata, Record, Targets

SIDE, K = 64, 133
WORDS = (f"c{i}" for i in range(K))
CLASSES = Metadata(
    "none", tuple(WORDS), tuple(range(K)), tuple(i < 80 for i in range(K)), ((0, 0, 0),) * K
)


def counts() -> torch.Tensor:
    """(4,) calls, waits, bytes from pageable memory and from pinned, until now."""
    out = (ctypes.c_long * 4)()
    ctypes.CDLL(os.environ["LD_PRELOAD"]).stand_in_counts(out)
    return torch.tensor(list(out))


def batch(count: int, segments: int, views: int) -> Batch:
    """`count` black images with black masks, pinned as the loader's."""
    tensors = (
        torch.zeros(segments, dtype=torch.int64),
        torch.zeros(segments, views, SIDE, SIDE, dtype=torch.bool),
        torch.ones(segments, views, dtype=torch.bool),
    )
    targets = [Targets(*(x.pin_memory() for x in tensors)) for _ in range(count)]
    sizes = torch.full((count, views, 2), SIDE).pin_memory()
    images = torch.zeros(count, views, 3, SIDE, SIDE, dtype=torch.uint8).pin_memory()
    record = Record("none", (SIDE, SIDE), (Frame(Path("none")),))
    return Batch(images, sizes, torch.zeros(count, views, 4), targets, [record] * count)


def main(config: str, *shapes: str) -> None:
    """Steps of the trainer, all that the loop does in between included."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # asks more of cuDNN than the stand-in has
    cfg = load_config(config, ["MODEL.WEIGHTS", "", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "0"])
    task = build_task(cfg, CLASSES)
    optimizer, schedule = build_optimizer(cfg, task)
    # in fp32: the stand-in's cuDNN has no bf16, and torch would take convolutions image by image
    trainer = Trainer(task, optimizer, schedule, launch(), clipping=Clipping())
    views = 2 if cfg.MODEL.META_ARCHITECTURE == "CropFormer" else 1
    for shape in shapes:
        count, segments = map(int, shape.split("x"))
        data = batch(count, segments, views)
        for _ in range(2):  # the first one sets things up
            before = counts()
            trainer.fit(iter([data]), trainer.iteration + 1, [])
        print(*(counts() - before).tolist()[:3])


if __name__ == "__main__":
    main(*sys.argv[1:])
