"""Evaluators of a data set."""

from __future__ import annotations

import logging

from segcore.augment import Augmented
from segcore.build.data import test_metadata
from segcore.build.views import mirrored_labels
from segcore.config import Config
from segcore.contracts import Evaluator, EvaluatorFactory, Task
from segcore.data.catalog import Catalog
from segcore.data.check_records import check_records
from segcore.engine.launch import Fabric
from segcore.errors import ConfigError, DataError
from segcore.evaluation.cityscapes import CityscapesEvaluator
from segcore.evaluation.contour import ContourEvaluator
from segcore.evaluation.entity import EntityEvaluator
from segcore.evaluation.instance import InstanceEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.evaluation.track_identity import TrackIdentityEvaluator
from segcore.evaluation.tracks import TrackEvaluator
from segcore.import_path import import_from
from segcore.structures import Metadata
from segcore.windowed import WindowedInference

logger = logging.getLogger(__name__)

EVALUATORS: dict[str, EvaluatorFactory] = {
    "semantic": lambda metadata, **_: SemanticEvaluator(metadata),
    "panoptic": lambda metadata, **_: PanopticEvaluator(metadata),
    "instance": InstanceEvaluator,
    "boundary": InstanceEvaluator,
    "lvis": InstanceEvaluator,
    "cityscapes": lambda metadata, **_: CityscapesEvaluator(metadata),
    "contour": lambda metadata, *, truth, **_: ContourEvaluator(metadata, truth=truth),
    "entity": lambda metadata, *, max_dets=None, **_: EntityEvaluator(metadata, max_dets=max_dets),
    "tracks": TrackEvaluator,
    "track_boundary": TrackEvaluator,
    "hota": lambda metadata, **_: TrackIdentityEvaluator(metadata),
}
COUNT_DETECTIONS = ("instance", "boundary", "lvis", "entity")  # those that take `max_dets`
# what a model must make for them, where that is called otherwise
NEEDS: dict[str, str] = {
    **dict.fromkeys(("boundary", "lvis", "cityscapes", "contour"), "instance"),
    **dict.fromkeys(("track_boundary", "hota"), "tracks"),
}


def build_evaluators(
    task: Task, catalog: Catalog, metadata: Metadata, *, max_dets: int = 0
) -> list[Evaluator]:
    """What the data set names, as far as the task makes it; nothing without a truth."""
    return evaluators_of(task.makes, catalog, metadata, max_dets=max_dets)


def evaluators_of(
    makes: tuple[str, ...], catalog: Catalog, metadata: Metadata, *, max_dets: int = 0
) -> list[Evaluator]:
    """What the data set names, as far as results hold it.

    Names of the table, or "package.module:factory" of one's own. Names that share a factory
    share an evaluator: truth and predictions are held once.

    Args:
        makes: as of a Task.
        max_dets: the surest predictions of an image and class that AP counts; 0: what is usual.
    """
    if not metadata.evaluators or not catalog.annotated(metadata.name):
        logger.info("%s has no annotations: no metrics, predictions alone", metadata.name)
        return []
    table = EVALUATORS | {
        name: import_from(name, f"{metadata.name}: evaluator", DataError)
        for name in metadata.evaluators
        if ":" in name
    }
    if unknown := set(metadata.evaluators) - table.keys():
        raise DataError(
            f"{metadata.name}: unknown evaluators {sorted(unknown)}; there are"
            f" {', '.join(EVALUATORS)}, and package.module:factory of your own"
        )
    named = ("entity",) if "entity" in makes else metadata.evaluators
    kinds = [kind for kind in named if NEEDS.get(kind, kind) in makes or ":" in kind]
    if not kinds:
        raise ConfigError(
            f"{metadata.name} is evaluated by {', '.join(metadata.evaluators)}, but the model makes"
            f" {', '.join(makes) or 'nothing'}; for Mask2Former turn on"
            " MODEL.MASK_FORMER.TEST.SEMANTIC_ON, INSTANCE_ON or PANOPTIC_ON"
        )
    instances = "instance" in {NEEDS.get(kind, kind) for kind in kinds}
    truth = catalog.truth(metadata.name, metadata) if instances else None
    factories = dict.fromkeys(table[kind] for kind in kinds)
    counting = [EVALUATORS[kind] for kind in COUNT_DETECTIONS] if max_dets else []
    return [
        factory(
            metadata,
            kinds=tuple(k for k in kinds if table[k] is factory),
            truth=truth,
            **({"max_dets": max_dets} if factory in counting else {}),
        )
        for factory in factories
    ]


def measured(makes: tuple[str, ...], metadata: Metadata) -> set[str]:
    """Kinds of results of which some metric of the data set is, as `makes` of a Task."""
    if "entity" in makes:
        return {"entity"}
    return {NEEDS.get(kind, kind) for kind in metadata.evaluators} & {*makes}


def build_augmented(cfg: Config, task: Task, fabric: Fabric) -> Augmented:
    """Semantic results from several sizes and the mirrored image, its classes swapped back."""
    aug = cfg.TEST.AUG
    if task.average is None:
        raise ConfigError(
            "TEST.AUG.ENABLED true is for semantic results alone; with it set"
            " MODEL.MASK_FORMER.TEST.SEMANTIC_ON true, PANOPTIC_ON false and INSTANCE_ON false"
        )
    swapped = mirrored_labels(cfg, task.metadata) if aug.FLIP else None
    return Augmented(task, aug.MIN_SIZES, aug.MAX_SIZE, aug.FLIP, fabric.device, swapped=swapped)


def build_windowed(cfg: Config, task: Task, fabric: Fabric) -> WindowedInference | None:
    """Videos in windows of TEST.WINDOW frames; None where a model sees them whole, or images."""
    _check_window(cfg)
    if not task.clips or not cfg.TEST.WINDOW:
        return None
    return WindowedInference(task, fabric.device, cfg.TEST.WINDOW, cfg.TEST.OVERLAP)


def _check_window(cfg: Config) -> None:
    if 0 < cfg.TEST.WINDOW <= cfg.TEST.OVERLAP:
        raise ConfigError(
            f"TEST.OVERLAP {cfg.TEST.OVERLAP} must be less than TEST.WINDOW {cfg.TEST.WINDOW}, the"
            " frames that a window has"
        )


def check_test_sets(cfg: Config, task: Task, catalog: Catalog) -> None:
    """What would otherwise be found wrong at the first evaluation, hours later."""
    _check_window(cfg)
    for name in cfg.DATASETS.TEST:
        metadata = test_metadata(task, catalog, name)
        file = catalog.entry(name).source.annotations
        if not file.exists():
            raise DataError(
                f"{file}: not found; DATASETS.TEST {name} wants it (DETECTRON2_DATASETS is"
                f" {catalog.root}); DATASETS.TEST [] trains without evaluation"
            )
        build_evaluators(task, catalog, metadata)
        if not catalog.entry(name).format.images:
            continue
        try:
            check_records(catalog.records(name), metadata, catalog.truth(name))
        except DataError as error:
            raise DataError(
                f"DATASETS.TEST {name}: {error} (DATASETS.TEST [] trains without evaluation)"
            ) from None
