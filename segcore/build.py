"""From a config to ready-made parts: the one file of the framework that reads one."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from segcore.augment import Augmented
from segcore.config import Config
from segcore.contracts import Evaluator, Task
from segcore.data.catalog import dataset_metadata, load_dataset
from segcore.data.loader import TestLoader, train_loader
from segcore.data.store import Records
from segcore.engine.launch import Fabric, choose_precision
from segcore.engine.optim import (
    Decay,
    Schedule,
    make_optimizer,
    multistep,
    parameter_groups,
    poly,
)
from segcore.errors import ConfigError, DataError
from segcore.evaluation.entity import EntityEvaluator
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.structures import Batch, Metadata

logger = logging.getLogger(__name__)

ARCHITECTURES = {
    "MaskFormer": "mask2former.build:build",
    "MaskFormer for entities": "cropformer.build:build_plain",
    "CropFormer": "cropformer.build:build_crops",
}
EVALUATORS: dict[str, Callable[[Metadata], Evaluator]] = {
    "semantic": SemanticEvaluator,
    "panoptic": PanopticEvaluator,
    "instance": InstanceEvaluator,
    "boundary": lambda metadata: InstanceEvaluator(metadata, boundary=True),
}


def data_root() -> Path:
    """DETECTRON2_DATASETS, or ./datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def catalogs(cfg: Config) -> list[Path]:
    """Further catalogue files of the user."""
    return [Path(path).expanduser() for path in cfg.DATASETS.CATALOGS]


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
    return make(cfg, metadata or train_metadata(cfg))


def _float32_precision(name: str) -> None:
    """Of products of float32 numbers, in the whole process, as detectron2 does it."""
    if not name:
        return
    if name not in ("highest", "high", "medium"):
        raise ConfigError(f"FLOAT32_PRECISION {name!r}: expected highest, high, medium or ''")
    torch.set_float32_matmul_precision(name)


def train_metadata(cfg: Config) -> Metadata:
    """Classes of the first training set, or of the first test set where there is none."""
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name a data set of the catalogue, or give the path of an"
            " annotation file"
        )
    return dataset_metadata(names[0], data_root(), catalogs(cfg))


def train_records(cfg: Config) -> Records:
    """Records of all training sets, those without a usable segment left out."""
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty; there is nothing to train on")
    loaded = [load_dataset(name, data_root(), catalogs(cfg)) for name in cfg.DATASETS.TRAIN]
    first = loaded[0][0]
    for metadata, _ in loaded[1:]:
        if metadata.classes != first.classes:
            raise ConfigError(
                f"{metadata.name} and {first.name} have different classes; data sets that are"
                " trained together need the same classes in the same order"
            )
    kept = Records.join([records for _, records in loaded])
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        kept = kept.take(kept.usable)
    if not len(kept):
        raise DataError(
            f"{', '.join(cfg.DATASETS.TRAIN)}: no image has an annotation that is not a crowd;"
            " there is nothing to train on"
        )
    return kept


def train_batches(cfg: Config, task: Task, fabric: Fabric, start: int = 0) -> Iterator[Batch]:
    """Endless batches of this rank; `start` optimizer steps have been done already."""
    parts = fabric.world_size * cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % parts:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be split over"
            f" {fabric.world_size} processes x {cfg.SOLVER.ACCUMULATE} accumulated batches"
        )
    return train_loader(
        train_records(cfg),
        task.views,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // parts,
        seed=max(cfg.SEED, 0),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start=start * cfg.SOLVER.ACCUMULATE,
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )


def test_batches(cfg: Config, task: Task, name: str, fabric: Fabric) -> TestLoader:
    """One pass over this rank's share of a data set."""
    _, records = load_dataset(name, data_root(), catalogs(cfg))
    return TestLoader(
        records,
        task.views,
        batch_size=cfg.TEST.BATCH_SIZE,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


test_batches.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def test_metadata(cfg: Config, name: str, trained: Metadata) -> Metadata:
    """Of a test set; refused where its classes are not those that the model was trained on."""
    metadata = dataset_metadata(name, data_root(), catalogs(cfg))
    if cfg.ENTITY.ENABLE:
        return metadata
    ours, theirs = trained.classes, metadata.classes
    differ = [(a, b) for a, b in zip(ours, theirs, strict=False) if a != b]
    if len(ours) != len(theirs) or (differ and set(ours) == set(theirs)):
        raise ConfigError(
            f"DATASETS.TEST {name} has {len(theirs)} classes ({_some(theirs)}), the model"
            f" {len(ours)} ({_some(ours)}); expected the same in the same order"
        )
    if differ:
        pairs = ", ".join(f"{a!r} is {b!r}" for a, b in differ[:3])
        logger.warning(
            "%s: %d classes have other names than the model's: %s", name, len(differ), pairs
        )
    return metadata


test_metadata.__test__ = False  # type: ignore[attr-defined]


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def build_evaluators(cfg: Config, metadata: Metadata) -> list[Evaluator]:
    """What the data set is judged by, as far as the model makes it."""
    if cfg.ENTITY.ENABLE:
        found: list[Evaluator] = [EntityEvaluator(metadata)]
        return [*found, EntityEvaluator(metadata, boundary=True)]
    test = cfg.MODEL.MASK_FORMER.TEST
    makes = {
        "semantic": test.SEMANTIC_ON,
        "panoptic": test.PANOPTIC_ON,
        "instance": test.INSTANCE_ON,
        "boundary": test.INSTANCE_ON,
    }
    kinds = [kind for kind in metadata.evaluators if makes.get(kind, False)]
    if not kinds:
        raise ConfigError(
            f"{metadata.name} is judged by {', '.join(metadata.evaluators) or 'nothing'}, but the"
            " model makes none of it; turn on MODEL.MASK_FORMER.TEST.SEMANTIC_ON, INSTANCE_ON or"
            " PANOPTIC_ON"
        )
    return [EVALUATORS[kind](metadata) for kind in kinds]


def build_augmented(cfg: Config, task: Task, fabric: Fabric) -> Augmented:
    """Semantic results from several sizes and the mirrored image."""
    test, aug = cfg.MODEL.MASK_FORMER.TEST, cfg.TEST.AUG
    if not test.SEMANTIC_ON or test.PANOPTIC_ON or test.INSTANCE_ON or cfg.ENTITY.ENABLE:
        raise ConfigError(
            "TEST.AUG.ENABLED true is for semantic results alone; with it set"
            " MODEL.MASK_FORMER.TEST.SEMANTIC_ON true, PANOPTIC_ON false and INSTANCE_ON false"
        )
    return Augmented(task, aug.MIN_SIZES, aug.MAX_SIZE, aug.FLIP, fabric.device)


def build_optimizer(cfg: Config, model: nn.Module) -> tuple[Optimizer, Schedule]:
    """Optimizer and the factor of its rates by iteration."""
    solver = cfg.SOLVER
    decay = Decay(solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM, solver.WEIGHT_DECAY_EMBED)
    groups = parameter_groups(model, solver.BASE_LR, solver.BACKBONE_MULTIPLIER, decay)
    fused = choose_precision(precision(cfg), cfg.MODEL.DEVICE) != "fp16"
    optimizer = make_optimizer(solver.OPTIMIZER, groups, solver.MOMENTUM, fused)
    warmup = (solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.WARMUP_METHOD)
    if solver.LR_SCHEDULER_NAME == "WarmupPolyLR":
        power, ending = solver.POLY_LR_POWER, solver.POLY_LR_CONSTANT_ENDING
        schedule = poly(max_iter=solver.MAX_ITER, power=power, ending=ending, warmup=warmup)
        return optimizer, schedule
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        return optimizer, multistep(steps=solver.STEPS, gamma=solver.GAMMA, warmup=warmup)
    raise ConfigError(
        f"SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME!r}: expected WarmupPolyLR or"
        " WarmupMultiStepLR"
    )


def clipping(cfg: Config) -> dict[str, float]:
    """What of the gradients the trainer clips, by its arguments' names."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    names = {"full_model": "clip_norm", "value": "clip_value", "norm": "clip_each"}
    if clip.CLIP_TYPE not in names:
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE {clip.CLIP_TYPE!r}: expected {', '.join(names)}"
        )
    limit = clip.CLIP_VALUE if clip.ENABLED else 0.0
    none = dict.fromkeys(names.values(), 0.0)
    return none | {names[clip.CLIP_TYPE]: limit, "norm_type": clip.NORM_TYPE}


def precision(cfg: Config) -> str:
    """What `launch` wants: "" for the best mixed precision, or a name."""
    return cfg.SOLVER.AMP.PRECISION if cfg.SOLVER.AMP.ENABLED else "fp32"
