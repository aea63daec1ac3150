"""From a config to a ready-made task."""

from __future__ import annotations

from dataclasses import replace

import torch

from segcore.architectures import KEY, architecture
from segcore.build.data import catalog, train_metadata
from segcore.config import Config, check_config
from segcore.contracts import Task
from segcore.engine.launch import DTYPES, choose_precision
from segcore.import_path import import_from
from segcore.structures import Metadata


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
    precision = choose_precision(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")
    return replace(task, precision=DTYPES[precision])
