"""Evaluators of a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from segcore.augment import Augmented
from segcore.build.data import catalogs, data_root, test_metadata
from segcore.config import Config
from segcore.contracts import Evaluator, Task
from segcore.data.catalog import find
from segcore.data.instance_truth import instance_truth
from segcore.engine.launch import Fabric
from segcore.errors import ConfigError, DataError
from segcore.evaluation.entity import EntityEvaluator
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.structures import Metadata

logger = logging.getLogger(__name__)

EVALUATORS: dict[str, Callable[[Metadata], Evaluator]] = {
    "semantic": SemanticEvaluator,
    "panoptic": PanopticEvaluator,
    "instance": InstanceEvaluator,
    "boundary": lambda metadata: InstanceEvaluator(metadata, boundary=True),
}


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
