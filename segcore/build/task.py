"""From a config to a task, and from a checkpoint to one that is ready to look at images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from segcore.architectures import KEY, architecture
from segcore.build.data import catalog, known_classes, train_metadata
from segcore.config import Config, check_config
from segcore.contracts import Task
from segcore.engine.compile import compile_parts
from segcore.engine.device import choose_device
from segcore.engine.launch import DTYPES, choose_precision
from segcore.engine.memory import return_freed_memory
from segcore.engine.weights import load_into_task, read_checkpoint
from segcore.errors import ConfigError, WeightsError
from segcore.export.as_model import ExportedModel
from segcore.export.facts import metadata_of
from segcore.export.read import is_exported, read_exported
from segcore.import_path import import_from
from segcore.nn.cpu_training import train_on_cpu
from segcore.nn.packed import missing_operator
from segcore.nn.prepared import prepared_or_plain
from segcore.structures import Metadata

COMPILED = ("backbone", "pixel_decoder", "decoder")  # a graph each; the rest stays as it is

logger = logging.getLogger(__name__)


def build_task(cfg: Config, metadata: Metadata | None = None) -> Task:
    """The architecture that MODEL.META_ARCHITECTURE names, or "package.module:function".

    Args:
        metadata: the classes of the data; None: those of the first data set.
    """
    build = import_from(architecture(cfg.MODEL.META_ARCHITECTURE).build, KEY)
    check_config(cfg)
    if cfg.FLOAT32_PRECISION:  # of products, in the whole process, as detectron2 does it
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
    task = build(cfg, metadata or train_metadata(cfg, catalog(cfg)))
    if cfg.MODEL.COMPILE:
        compile_parts(task.model, COMPILED)
    precision = choose_precision(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")
    return replace(task, precision=DTYPES[precision])


def build_for_training(cfg: Config, metadata: Metadata | None = None) -> Task:
    """`build_task`, on a CPU with layers that learn the same in less time (SOLVER.PREPARE).

    Args: as of `build_task`.
    """
    task = build_task(cfg, metadata)
    on_cpu = choose_device(cfg.MODEL.DEVICE).type == "cpu"
    if cfg.SOLVER.PREPARE and on_cpu and not cfg.MODEL.COMPILE:
        if lacking := missing_operator():
            logger.warning("training with plain layers, slower: this PyTorch has no %s", lacking)
        else:
            train_on_cpu(task.model, task.trained, winograd=cfg.SOLVER.WINOGRAD)
    return task


def load_task(
    cfg: Config,
    checkpoint: str | Path | Mapping[str, Any],
    *,
    device: torch.device | None = None,
) -> Task:
    """The config's task with the checkpoint's weights and classes, on its device, in eval mode.

    WeightsError where a tensor of the model would stay random.

    Args:
        checkpoint: whatever MODEL.WEIGHTS takes, or what `read_checkpoint` returned; "": the model
            stays random, with a warning. A file of `segcore export` runs in its own runtime.
        device: None: the one of MODEL.DEVICE.
    """
    if not isinstance(checkpoint, Mapping) and is_exported(checkpoint):
        return _exported_task(cfg, Path(checkpoint))
    named = not isinstance(checkpoint, Mapping)
    content = checkpoint if isinstance(checkpoint, Mapping) else {}
    if named and str(checkpoint):
        content = read_checkpoint(checkpoint)
    device = device or choose_device(cfg.MODEL.DEVICE)
    task = build_task(cfg, _trained_metadata(cfg, content))
    if content:
        try:
            load_into_task(task, content, complete=True)
        except WeightsError as error:
            raise WeightsError(f"{checkpoint}: {error}" if named else str(error)) from None
    else:
        logger.warning("no weights given: the model is random, and so are its results")
    task.model.to(device).eval()
    return task


def load_for_inference(
    cfg: Config,
    checkpoint: str | Path | Mapping[str, Any],
    *,
    device: torch.device | None = None,
) -> Task:
    """`load_task`, on a CPU with its weights packed (TEST.PREPARE): only to look at images.

    Args: as of `load_task`.
    """
    task = load_task(cfg, checkpoint, device=device)
    device = device or choose_device(cfg.MODEL.DEVICE)
    wanted = cfg.TEST.PREPARE and device.type == "cpu" and not cfg.MODEL.COMPILE
    return prepared(task, winograd=cfg.TEST.WINOGRAD) if wanted else task


def prepared(task: Task, lacking: str | None = None, *, winograd: bool = True) -> Task:
    """The task with its model prepared for inference on a CPU; the model is changed in place.

    Args:
        lacking: what PyTorch lacks for it, "" nothing; None: looked up.
        winograd: in float32, 3x3 convolutions by Winograd's algorithm.
    """
    if task.prepared is None:
        return task
    model = prepared_or_plain(
        task.model, task.precision, task.prepared, lacking=lacking, winograd=winograd
    )
    return_freed_memory()  # where the plain weights were is not what large maps fit into
    return task if model is task.model else replace(task, model=model)


def _exported_task(cfg: Config, file: Path) -> Task:
    opened = read_exported(file, bf16=cfg.TEST.PRECISION == "bf16")
    task = build_task(cfg, _trained_metadata(cfg, {"metadata": metadata_of(opened.facts)}))
    return replace(task, model=ExportedModel(opened).eval(), prepared=None)


def _trained_metadata(cfg: Config, content: Mapping[str, Any]) -> Metadata:
    """Classes as a model was trained: the architecture's, the checkpoint's, or the data set's.

    Args:
        content: what `read_checkpoint` returned; {}: there is no checkpoint.
    """
    if known := known_classes(cfg):  # no file is needed
        return known
    if content.get("metadata"):
        return Metadata.from_dict(content["metadata"])
    if not [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
        raise ConfigError(
            "DATASETS.TRAIN is empty and the checkpoint names no classes; name the data set that"
            " the model was trained on, e.g. DATASETS.TRAIN '[coco_2017_train_panoptic]'"
        )
    return train_metadata(cfg, catalog(cfg))
