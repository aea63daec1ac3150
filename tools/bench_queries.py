"""Time and memory of many queries with as many objects in one image of 512x512.

    python tools/bench_queries.py --queries 100 300 500 1000 1500

Random weights of configs/small/instance_lite0.yaml and drawn squares, each number in a process of
its own; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mask2former.build import build_criterion, former_of
from segcore.build.solver import build_optimizer
from segcore.build.task import build_task
from segcore.config import load_config
from segcore.engine.memory import keep_freed_memory
from segcore.predict import Predictor
from segcore.shipped import config_file
from segcore.structures import Prediction, Targets

CONFIG = config_file("small/instance_lite0.yaml")
SIZE = 512
KINDS = ("training step", "of it matching", "inference")


def options(count: int) -> list[str]:
    """As many queries and results as objects, random weights, the image at its own size."""
    queries = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", str(count), "MODEL.WEIGHTS", ""]
    results = ["TEST.DETECTIONS_PER_IMAGE", str(count), "INPUT.MIN_SIZE_TEST", "0"]
    data = ["DATASETS.TRAIN", "[coco_2017_train]", "MODEL.DEVICE", "cpu"]
    return [*queries, *results, *data]


def squares(count: int) -> Targets:
    """Objects in rows and columns that fill the image, of classes in turn."""
    side = int(np.ceil(count**0.5))
    edge = SIZE // side
    masks = torch.zeros(count, 1, SIZE, SIZE, dtype=torch.bool)
    for i in range(count):
        y, x = edge * (i // side), edge * (i % side)
        masks[i, 0, y : y + edge - 1, x : x + edge - 1] = True
    return Targets(torch.arange(count) % 80, masks, torch.ones(count, 1, dtype=torch.bool))


def training(count: int) -> Callable[[], None]:
    """Forward, losses, backward and AdamW."""
    config = load_config(CONFIG, options(count))
    task = build_task(config)
    network, (optimizer, _) = task.model.train(), build_optimizer(config, task)
    pixels = torch.randint(0, 256, (1, 1, 3, SIZE, SIZE), dtype=torch.uint8)
    given = pixels, torch.full((1, 1, 2), SIZE), [squares(count)]

    def step() -> None:
        terms = task.losses(network(*given), given[2], torch.full((2,), float(count)))
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def matching(count: int) -> Callable[[], object]:
    """Costs and assignment of every layer, of predictions as a network makes them at first."""
    config = load_config(CONFIG, options(count))
    noise, cells = torch.Generator().manual_seed(0), SIZE // 4
    layers = [
        Prediction(
            0.1 * torch.randn(1, count, 81, generator=noise),
            torch.randn(1, count, 1, cells, cells, generator=noise),
        )
        for _ in range(former_of(config).DEC_LAYERS)
    ]
    matcher, target = build_criterion(config).matcher, squares(count)
    return lambda: [matcher([layer], [target]) for layer in layers]


def inference(count: int) -> Callable[[], object]:
    """Pixels to results."""
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return partial(Predictor(CONFIG, "", options(count)), image)


def measured(kind: str, count: int, repeat: int, threads: int, answer: Connection) -> None:
    """Sends the median seconds, and the MB that the process has had at most."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_freed_memory()
    run = {KINDS[0]: training, KINDS[1]: matching, KINDS[2]: inference}[kind](count)
    spent = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.send((statistics.median(spent[1:]), peak))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time and memory of many queries")
    parser.add_argument("--queries", type=int, nargs="+", default=[100, 300, 500, 1000, 1500])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    columns = [f"{kind}, {unit}" for kind in KINDS for unit in ("s", "MB")]
    table = Table("queries, objects", *columns)
    for count in args.queries:
        cells: list[str] = []
        for kind in KINDS:
            ours, theirs = Pipe()
            given = (kind, count, args.repeat, args.threads, theirs)
            process = get_context("spawn").Process(target=measured, args=given)
            process.start()
            theirs.close()
            seconds, peak = ours.recv()
            process.join()
            cells += [f"{seconds:.2f}", f"{peak:.0f}"]
            print(f"{count} {kind}: {seconds:.2f} s, {peak:.0f} MB", flush=True)
        table.add_row(str(count), *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
