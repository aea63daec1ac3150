"""From a config to a ready-made task."""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace

import torch

from segcore.build.data import train_metadata
from segcore.config import Config
from segcore.contracts import Task
from segcore.engine.launch import DTYPES, choose_precision
from segcore.errors import ConfigError
from segcore.structures import Metadata

logger = logging.getLogger(__name__)

ARCHITECTURES = {
    "MaskFormer": "mask2former.build:build",
    "MaskFormer for entities": "cropformer.build:build_plain",
    "CropFormer": "cropformer.build:build_crops",
}


def build_task(cfg: Config, metadata: Metadata | None = None) -> Task:
    """The architecture that MODEL.META_ARCHITECTURE names, or "package.module:function"."""
    _float32_precision(cfg.FLOAT32_PRECISION)
    name = cfg.MODEL.META_ARCHITECTURE
    if name == "MaskFormer" and cfg.ENTITY.ENABLE:
        name = "MaskFormer for entities"
    if name not in ARCHITECTURES and ":" not in name:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {name!r}: expected {', '.join(ARCHITECTURES)}, or"
            " package.module:function"
        )
    module, _, function = ARCHITECTURES.get(name, name).partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"MODEL.META_ARCHITECTURE {name!r} cannot be imported: {error}") from None
    name = choose_precision(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")
    return replace(make(cfg, metadata or train_metadata(cfg)), precision=DTYPES[name])


def _float32_precision(name: str) -> None:
    """Of products of float32 numbers, in the whole process, as detectron2 does it."""
    if not name:
        return
    if name not in ("highest", "high", "medium"):
        raise ConfigError(f"FLOAT32_PRECISION {name!r}: expected highest, high, medium or ''")
    torch.set_float32_matmul_precision(name)
