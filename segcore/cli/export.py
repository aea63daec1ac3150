"""Write a model as a file for other runtimes, run that file, and compare it with the model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from segcore.build.data import catalog
from segcore.build.task import load_task
from segcore.config import Config, load_config, to_dict
from segcore.contracts import Task
from segcore.data.folders import files_below
from segcore.data.images import IMAGE_SUFFIXES, read_image
from segcore.errors import ConfigError, DataError
from segcore.export import int8 as quantisation
from segcore.export import onnx_file, openvino_file, parity, torch_file
from segcore.export.as_model import padded
from segcore.export.facts import KINDS, Facts, Wanted, facts_of
from segcore.export.graph import Graph, drawn_input, exported, graph_of, refuse_model
from segcore.export.read import SUFFIXES, is_exported, read_exported
from segcore.structures import Batch, Frame, Record, Size
from segcore.user_path import user_path

logger = logging.getLogger(__name__)

EXAMPLES = ((256, 320), (224, 384))  # sizes that a graph for any size is made and tried with


def main(
    *,
    config_file: str,
    opts: Sequence[str],
    to: str,
    output: Path | None,
    size: Size | None,
    kind: str,
    post: bool,
    custom: bool,
    int8: str | None,
    int8_images: int,
) -> int:
    """Export MODEL.WEIGHTS; 0."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    cfg = load_config(config_file, opts)
    cfg.MODEL.COMPILE = False
    refuse(to, sized=size is not None, custom=custom, int8=bool(int8))
    if is_exported(cfg.MODEL.WEIGHTS):
        raise ConfigError(f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} is exported; name its checkpoint")
    path = output or Path(cfg.OUTPUT_DIR) / f"model{SUFFIXES[to]}"
    if path.suffix != SUFFIXES[to]:
        raise ConfigError(f"--output {path}: expected a name that ends with {SUFFIXES[to]}")
    task = load_task(cfg, cfg.MODEL.WEIGHTS, device=torch.device("cpu"))
    refuse_model(task)
    wanted = Wanted(size=size, views=_views(task), kind=kind, post=post, custom=custom)
    images = calibration(cfg, task, wanted, int8, int8_images) if int8 else []
    export(cfg, task, wanted, to, path, images)
    return 0


def refuse(to: str, *, sized: bool, custom: bool, int8: bool) -> None:
    """ConfigError where flags do not go together, or a package is not installed."""
    if custom and to != "torch-export":
        raise ConfigError(f"--custom-op: only torch has our operator, --to {to} has not")
    if int8 and to not in ("onnx", "openvino"):
        raise ConfigError(f"--int8 makes ONNX and OpenVINO files, not --to {to}")
    if to == "torchscript" and not sized:
        raise ConfigError("--to torchscript traces one size: give it as --size H W")
    if to in ("onnx", "openvino"):
        onnx_file.require()
    if to == "openvino":
        openvino_file.library()
    if int8:
        quantisation.library()


def export(
    cfg: Config,
    task: Task,
    wanted: Wanted,
    to: str,
    path: Path,
    images: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> None:
    """The file, and beside it what it was compared with; nothing where it differs too much.

    Args:
        images: pixels and sizes; with some the file is quantised to int8, and may differ.
    """
    graph = graph_of(task, wanted)
    sizes = [wanted.size] if wanted.size else EXAMPLES
    example = drawn_input(wanted, sizes[0])
    with torch.no_grad():
        outputs = tuple(graph.named(*example))
    facts = facts_of(
        task,
        wanted,
        outputs=outputs,
        resize={"shorter": cfg.INPUT.MIN_SIZE_TEST, "longest": cfg.INPUT.MAX_SIZE_TEST},
        config=yaml.safe_dump(to_dict(cfg), sort_keys=False),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        made, start = Path(folder) / path.name, time.perf_counter()
        _write(graph, wanted, example, to, made, facts)
        if images:
            quantisation.quantise(made, images, facts | {"int8": len(images)})
        logger.info("written in %.0f s; now it runs", time.perf_counter() - start)
        tries = 1 if images else parity.TRIES
        compared = parity.compare(read_exported(made), graph, wanted, sizes, tries)
        if not images:
            parity.refuse_difference(compared, path)
        parity.write(made, compared)
        for file in Path(folder).iterdir():
            os.replace(file, path.with_name(file.name))
    for row in (one.row for one in compared):
        logger.info("%s: differs by %s in %s", row["shape"], row["differences"], row["runtime"])
    logger.info("%s", path)


def _write(
    graph: Graph, wanted: Wanted, example: tuple[Any, Any], to: str, path: Path, facts: Facts
) -> None:
    if to == "torchscript":
        torch_file.write_script(graph, wanted, example, path, facts)
        return
    program = exported(graph, wanted, example)
    if to == "torch-export":
        torch_file.write_program(program, path, facts)
    elif to == "onnx":
        onnx_file.write(program, path, facts)
    else:
        with TemporaryDirectory() as folder:
            between = Path(folder) / "model.onnx"
            onnx_file.write(program, between, facts)
            openvino_file.write(between, path, facts)


def calibration(
    cfg: Config, task: Task, wanted: Wanted, source: str, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels and sizes of the first images of a folder, of a file, or of a data set's name.

    DataError where there are none.
    """
    folder = user_path(source)
    if folder.is_dir():
        files = sorted(p for p in files_below(folder) if p.suffix.lower() in IMAGE_SUFFIXES)[:count]
    else:
        records = catalog(cfg).read(source)
        files = [records[i].frames[0].file for i in range(min(count, len(records)))]
    if not files:
        raise DataError(f"--int8 {source}: no image there; give a folder, or a data set's name")
    pairs = []
    for file in files:
        image = read_image(file)
        record = Record(str(file), (image.shape[0], image.shape[1]), (Frame(file),))
        batch = Batch.collate([task.views.test(image, record)])
        pixels = padded(batch.images[0], wanted.size) if wanted.size else batch.images[0]
        pairs.append((pixels.to(KINDS[wanted.kind]).numpy(), batch.sizes[0].numpy()))
    return pairs


def _views(task: Task) -> int:
    """How many views of an image the model looks at."""
    record = Record("export", (64, 64), (Frame(Path("export")),))
    return len(task.views.test(np.zeros((64, 64, 3), np.uint8), record).views)
