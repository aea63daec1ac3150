"""What each contender of `segcore bench` runs, in a process of its own."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mask2former.build import former_of, head_of
from segcore.build.data import catalog, train_metadata
from segcore.build.solver import build_optimizer
from segcore.build.task import build_for_training, load_task
from segcore.cli.bench_job import CONFIG, FILES, Job, device, exported_file
from segcore.cli.bench_names import RESNETS, is_swin
from segcore.cli.export import export
from segcore.contracts import Task
from segcore.engine.memory import keep_freed_memory
from segcore.engine.part_times import timed_parts
from segcore.export.facts import Wanted
from segcore.predict import Predictor
from segcore.structures import Batch, Frame, Record, Size, Targets

WARM = 2  # runs that do not count: torch.compile may look twice
PART_RUNS = 3  # in which the parts are timed
OBJECTS = 10  # of a training image
STAGES = ["stage1", "stage2", "stage3", "stage4"]
DEFAULT = Job(CONFIG)


def contender(name: str, job: Job, folder: str, orders: Connection) -> None:
    """Warm up, then at each order one run; back go its seconds, at last its peak and its parts."""
    logging.disable(logging.WARNING)  # of random weights
    torch.set_num_threads(job.threads or torch.get_num_threads())
    what, _, who = name.rpartition(": ")
    if what == "image":
        run = inference(who, job.size, job, exported_file(name, folder))
    else:
        run = training(who, job.side, job=job)
    for _ in range(WARM):
        run()
    finish()
    orders.send(True)
    while orders.recv() == "run":
        start, cpu = time.perf_counter(), time.process_time()
        run()
        finish()
        orders.send((time.perf_counter() - start, time.process_time() - cpu))
    peak = peak_memory()
    model = own_model(run)
    orders.send((peak, {} if model is None else timed_parts(model, run, PART_RUNS)))


def write_exported(name: str, job: Job, folder: str) -> None:
    """Our model, of the size that the image gets, as `segcore export` writes it."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(job.threads or torch.get_num_threads())
    path = exported_file(name, folder)
    assert path is not None
    cfg = job.cfg("INPUT.MIN_SIZE_TEST", "0")
    task = seeded(lambda: load_task(cfg, cfg.MODEL.WEIGHTS))
    image, record = noise(job.size), Record("noise", job.size, (Frame(Path("noise")),))
    pixels = Batch.collate([task.views.test(image, record)]).images[0]
    wanted = Wanted(size=(pixels.shape[-2], pixels.shape[-1]), views=len(pixels))
    export(cfg, task, wanted, FILES[name.rpartition(": ")[2].partition(",")[0]][0], path)


def peak_memory() -> float:
    """MB of this process at most; the kernel's number of the program, not of who started it."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def own_model(run: Any) -> torch.nn.Module | None:
    """The model whose parts can be timed: ours, not an exported or a foreign one."""
    if not isinstance(run, partial):
        return None
    task = run.func.task if isinstance(run.func, Predictor) else run.args[0]
    return task.model if any(True for _ in task.model.children()) else None


def seeded(make: Callable[[], Any]) -> Any:
    """What it makes, with the same random weights in every process."""
    torch.manual_seed(0)
    return make()


def finish() -> None:
    """Wait for a GPU, which is only told what to do."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def mixed(who: str) -> torch.autocast:
    """Products in bf16 where the contender's name says so."""
    return torch.autocast(device().type, torch.bfloat16, enabled=who.endswith("bf16"))


def noise(size: Size) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def inference(
    who: str, size: Size = (800, 1216), job: Job = DEFAULT, exported: Path | None = None
) -> Callable[[], object]:
    """One image, already at its size: pixels to results.

    Args:
        exported: our model as a file, that runs in its own runtime.
    """
    if who.startswith("transformers"):
        return their_image(who, size, job)
    keep_freed_memory()  # as `segcore predict` does
    opts = job.options("INPUT.MIN_SIZE_TEST", "0", "TEST.PRECISION", who.rpartition(", ")[2])
    opts += ["MODEL.COMPILE", str("compiled" in who)]
    opts += ["MODEL.WEIGHTS", str(exported)] if exported else []
    return partial(seeded(lambda: Predictor(job.config, None, opts)), noise(size))


def hugging_face(who: str, job: Job) -> Any:
    """Their Mask2Former of the same sizes, random, on the device."""
    theirs: Any = import_module("transformers")
    cfg = job.cfg()
    if is_swin(cfg):
        swin = cfg.MODEL.SWIN
        backbone = theirs.SwinConfig(
            embed_dim=swin.EMBED_DIM,
            depths=list(swin.DEPTHS),
            num_heads=list(swin.NUM_HEADS),
            window_size=swin.WINDOW_SIZE,
            out_features=STAGES,
        )
    else:
        depths = RESNETS[cfg.MODEL.RESNETS.DEPTH]
        backbone = theirs.ResNetConfig(depths=depths, out_features=STAGES)
    config = theirs.Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=head_of(cfg).NUM_CLASSES or 80,
        num_queries=former_of(cfg).NUM_OBJECT_QUERIES,
    )
    model = theirs.Mask2FormerForUniversalSegmentation(config).to(device())
    return torch.compile(model) if "compiled" in who else model


def their_image(who: str, size: Size, job: Job) -> Callable[[], None]:
    theirs, pixels = hugging_face(who, job).eval(), torch.randn(1, 3, *size, device=device())

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


def training(who: str, size: int = 512, batch: int = 1, job: Job = DEFAULT) -> Callable[[], object]:
    """Forward, losses, backward and AdamW of square images with 10 objects each."""
    step = our_step if who.startswith("ours") else their_step
    return step(*targets(size, OBJECTS), batch, who, job)


def our_step(
    masks: torch.Tensor, labels: torch.Tensor, batch: int, who: str, job: Job
) -> Callable[[], object]:
    keep_freed_memory()  # as `segcore train` does
    cfg = job.cfg("MODEL.COMPILE", str("compiled" in who))
    task = seeded(lambda: build_for_training(cfg, train_metadata(cfg, catalog(cfg))))
    model = task.model.train().to(device())
    optimizer, _ = build_optimizer(cfg, task)
    views = 1 + getattr(task.views, "num_train", 0)  # CropFormer looks at crops besides
    size, count = masks.shape[-1], float(batch * len(labels))
    shape = (batch, views, 3, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device())
    present = torch.ones(len(labels), views, dtype=torch.bool, device=device())
    labels = labels % max(1, len(task.metadata.classes))
    goal = [Targets(labels, masks[:, None].repeat(1, views, 1, 1), present)] * batch
    sizes = torch.full((batch, views, 2), size)
    counts = torch.tensor([count] * 2, device=device())

    def step(task: Task) -> None:
        with mixed(who):
            losses = task.losses(model(images, sizes, goal), goal, counts)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return partial(step, task)


def their_step(
    masks: torch.Tensor, labels: torch.Tensor, batch: int, who: str, job: Job
) -> Callable[[], object]:
    theirs = hugging_face(who, job).train()
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
