"""From a config to ready-made parts: the one file of the framework that reads one."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from segcore.augment import Augmented
from segcore.config import Config
from segcore.contracts import Evaluator, Task
from segcore.data.catalog import dataset_metadata, find, load_dataset
from segcore.data.loader import TestLoader, train_loader
from segcore.data.store import Records
from segcore.data.truth import instance_truth
from segcore.engine.launch import DTYPES, Fabric, choose_precision
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
    name = choose_precision(cfg.TEST.PRECISION, cfg.MODEL.DEVICE, "TEST.PRECISION")
    return replace(make(cfg, metadata or train_metadata(cfg)), precision=DTYPES[name])


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
    for metadata, records in loaded:
        if metadata.classes != first.classes:
            raise ConfigError(
                f"{metadata.name} and {first.name} have different classes; data sets that are"
                " trained together need the same classes in the same order"
            )
        _check_targets(cfg, metadata, records, first)
    kept = Records.join([records for _, records in loaded])
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        kept = kept.take(kept.usable)
    if not kept.usable.any():
        raise DataError(
            f"{', '.join(cfg.DATASETS.TRAIN)}: no image has an annotation that is not a crowd;"
            " there is nothing to train on"
        )
    return kept


def _check_targets(cfg: Config, metadata: Metadata, records: Records, first: Metadata) -> None:
    """Refuse a training set that does not hold what the mapper makes targets of."""
    name, mapper = metadata.name, f"INPUT.DATASET_MAPPER_NAME {cfg.INPUT.DATASET_MAPPER_NAME}"
    if ":" in cfg.MODEL.META_ARCHITECTURE or not records.usable.any():
        return  # an own architecture reads what it likes
    crops = cfg.MODEL.META_ARCHITECTURE == "CropFormer"  # which has its own mapper
    if crops or cfg.INPUT.DATASET_MAPPER_NAME != "mask_former_semantic":
        if not any(record.frames[0].segments for record in records):
            raise ConfigError(
                f"{'CropFormer' if crops else mapper} needs segments, but {name} has label images"
                " alone; train MaskFormer with INPUT.DATASET_MAPPER_NAME mask_former_semantic, or"
                " give COCO instances or COCO panoptic data"
            )
        return
    frame = records[0].frames[0]
    if frame.semantic is None and frame.panoptic is None:
        raise ConfigError(
            f"{mapper} needs label images or panoptic PNGs, but {name} has neither; set it to"
            " mask_former_instance or coco_instance_lsj"
        )
    ours, theirs = ((m.label_map, m.ignore_label) for m in (first, metadata))
    if frame.semantic is not None and ours != theirs:
        raise ConfigError(
            f"{name} and {first.name} have label images of different label_map or ignore_label"
            f" ({theirs}, {ours}); all training sets are read by those of the first: rewrite one's"
            " label images, and give both the same"
        )


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
        seed=max(cfg.SEED, 0),  # below 0 train_net.py has drawn one
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


def check_test_sets(cfg: Config, trained: Metadata) -> None:
    """What would otherwise be found wrong at the first evaluation, hours later."""
    for name in cfg.DATASETS.TEST:
        metadata = test_metadata(cfg, name, trained)
        file = find(name, data_root(), catalogs(cfg)).get("annotations")
        if file and not Path(file).exists():
            raise DataError(
                f"{file}: not found; DATASETS.TEST {name} wants it (DETECTRON2_DATASETS is"
                f" {data_root()}); DATASETS.TEST [] trains without evaluation"
            )
        build_evaluators(cfg, metadata)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def build_evaluators(cfg: Config, metadata: Metadata) -> list[Evaluator]:
    """What the data set is judged by, as far as the model makes it; nothing without a truth."""
    if not metadata.evaluators:
        logger.info("%s has no annotations: no metrics, predictions alone", metadata.name)
        return []
    if unknown := set(metadata.evaluators) - EVALUATORS.keys():
        raise DataError(
            f"{metadata.name}: unknown evaluators {sorted(unknown)}; there are"
            f" {', '.join(EVALUATORS)}"
        )
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
    kinds = [kind for kind in metadata.evaluators if makes.get(kind, True)]
    if not kinds:
        raise ConfigError(
            f"{metadata.name} is judged by {', '.join(metadata.evaluators)}, but the model makes"
            " none of it; turn on MODEL.MASK_FORMER.TEST.SEMANTIC_ON, INSTANCE_ON or PANOPTIC_ON"
        )
    evaluators = [EVALUATORS[kind](metadata) for kind in kinds]
    judges = [e for e in evaluators if isinstance(e, InstanceEvaluator)]
    truth = instance_truth(metadata.name, data_root(), catalogs(cfg)) if judges else None
    for judge in judges:  # they share one
        judge.truth = truth
    return evaluators


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
