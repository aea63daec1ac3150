"""Data sets, and batches of them, as a config names them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segcore.architectures import KEY, architecture
from segcore.build.copy_paste import training_views
from segcore.build.mappers import TARGETS
from segcore.config import Config
from segcore.contracts import Task
from segcore.data.catalog import Catalog
from segcore.data.class_match import alike, in_classes_of, matched, namesakes
from segcore.data.label_sample import sample_labels
from segcore.data.loader import TestLoader, train_loader
from segcore.data.repeat_factors import repeat_factors
from segcore.data.store import Records
from segcore.data.survey import Survey
from segcore.engine.launch import Fabric
from segcore.errors import ConfigError, DataError
from segcore.import_path import import_from
from segcore.shipped import OF_DATA
from segcore.structures import Batch, Metadata
from segcore.user_path import user_path

logger = logging.getLogger(__name__)


def data_root() -> Path:
    """DETECTRON2_DATASETS, or ./datasets."""
    return user_path(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def catalog(cfg: Config, first: int = 0) -> Catalog:
    """All data sets, those of the user's own catalogue files included; made once and handed on.

    Args:
        first: as of a Catalog.
    """
    return Catalog(data_root(), [user_path(path) for path in cfg.DATASETS.CATALOGS], first)


def train_metadata(cfg: Config, catalog: Catalog) -> Metadata:
    """Classes of the first training set, or of the first test set where there is none."""
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name a data set of the catalogue, or give the path of an"
            f" annotation file; {OF_DATA}"
        )
    return catalog.metadata(names[0])


def known_classes(cfg: Config) -> Metadata | None:
    """Classes that the architecture has whatever its data is, as entities are one; else None."""
    path = architecture(cfg.MODEL.META_ARCHITECTURE).classes
    return import_from(path, KEY)(cfg) if path else None


def train_records(cfg: Config, task: Task, catalog: Catalog) -> Records:
    """Records of all training sets, those without a usable segment left out."""
    if not cfg.DATASETS.TRAIN:
        raise ConfigError("DATASETS.TRAIN is empty; there is nothing to train on")
    first, parts = catalog.metadata(cfg.DATASETS.TRAIN[0]), []
    for name in cfg.DATASETS.TRAIN:
        metadata = catalog.metadata(name)
        survey = Survey(metadata)
        records = catalog.read(name, survey.add, survey=survey)
        if metadata.classes != first.classes:
            if not cfg.DATASETS.MATCH_CLASSES or task.needs == "labels":
                raise ConfigError(
                    f"{metadata.name} and {first.name} have different classes; data sets that are"
                    " trained together need the same classes in the same order, or, for segments,"
                    " DATASETS.MATCH_CLASSES true, which finds the first one's by name"
                )
            records = matched(records, metadata, first)
        _check_needs(cfg, task, records, metadata=metadata, first=first)
        _check_lessons(task, records, survey, filtered=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
        parts.append(records)
    records = Records.join(parts)
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = records.take(records.usable)
    if not records.usable.any():
        raise DataError(
            f"{', '.join(cfg.DATASETS.TRAIN)}: no image has an annotation that is not a crowd;"
            " there is nothing to train on"
        )
    return records


def _check_lessons(task: Task, records: Records, survey: Survey, *, filtered: bool) -> None:
    """Say what the training set holds and what of it is lost; refuse it where that is too much.

    Args:
        filtered: images without an annotation are left out.
    """
    of_labels = task.needs == "labels"
    survey.labels = sample_labels(records, survey.metadata, painted=of_labels)
    fate = "left out (DATALOADER.FILTER_EMPTY_ANNOTATIONS)" if filtered else "seen as they are"
    refusal = survey.refusal(crowds_train=of_labels)
    for level, line in survey.lines(fate):
        logger.log(logging.INFO if refusal else level, line)  # which says it once more
    if refusal:
        raise DataError(refusal)
    if survey.labels and (warning := survey.labels.trivial(survey.metadata)):
        logger.warning(warning)


def _check_needs(
    cfg: Config, task: Task, records: Records, *, metadata: Metadata, first: Metadata
) -> None:
    """Refuse a training set that does not hold what the task is trained on.

    Args:
        metadata: of this training set.
        first: of the first one, by which all label images are read.
    """
    if not task.clips and records.frames.max(initial=1) > 1:
        raise ConfigError(
            f"{metadata.name} has videos, but {cfg.MODEL.META_ARCHITECTURE} looks at images; set"
            " MODEL.META_ARCHITECTURE VideoMaskFormer"
        )
    if task.needs == "either" or not records.usable.any():
        return
    name, mapper = metadata.name, cfg.INPUT.DATASET_MAPPER_NAME
    model = f"{cfg.MODEL.META_ARCHITECTURE} with INPUT.DATASET_MAPPER_NAME {mapper}"
    if task.needs == "segments":
        if not any(frame.segments for record in records for frame in record.frames):
            raise ConfigError(
                f"{model} needs segments, but {name} has label images alone; give COCO instances"
                f" or COCO panoptic data, or set it to {_mappers(labels=True)}, where the"
                " architecture reads it, to train on label images"
            )
        return
    frame = records[0].frames[0]
    if frame.semantic is None and frame.panoptic is None:
        raise ConfigError(
            f"{model} needs label images or panoptic PNGs, but {name} has neither; set it to"
            f" {_mappers(labels=False)} to train on segments"
        )
    ours, theirs = ((m.label_map, m.ignore_label) for m in (first, metadata))
    if frame.semantic is not None and ours != theirs:
        raise ConfigError(
            f"{name} and {first.name} have label images of different label_map or ignore_label"
            f" ({theirs}, {ours}); all training sets are read by those of the first: rewrite one's"
            " label images, and give both the same"
        )


def _mappers(*, labels: bool) -> str:
    """Those that make targets of label images, or of segments."""
    return " or ".join(name for name, kind in TARGETS.items() if (kind == "semantic") == labels)


def train_batches(
    cfg: Config, task: Task, catalog: Catalog, fabric: Fabric, start: int = 0
) -> Iterator[Batch]:
    """Endless batches of this rank; `start` optimizer steps have been done already."""
    parts = fabric.world_size * cfg.SOLVER.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % parts:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be split over"
            f" {fabric.world_size} processes x {cfg.SOLVER.ACCUMULATE} accumulated batches"
        )
    records = train_records(cfg, task, catalog)
    return train_loader(
        records,
        training_views(cfg.INPUT.COPY_PASTE, task, records),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // parts,
        seed=max(cfg.SEED, 0),  # below 0 train_net.py has drawn one
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        start=start * cfg.SOLVER.ACCUMULATE,
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        repeats=_repeats(cfg, records),
    )


def _repeats(cfg: Config, records: Records) -> np.ndarray | None:
    """(N,) from 1: how often each record is seen in an epoch; None: all once."""
    loader, factors = cfg.DATALOADER, _shared_out(cfg, records)
    if loader.SAMPLER_TRAIN == "TrainingSampler":
        return factors
    rare = repeat_factors(records, loader.REPEAT_THRESHOLD, square_root=loader.REPEAT_SQRT)
    rare = np.ceil(rare) if loader.SAMPLER_TRAIN == "ClassBalancedDataset" else rare
    return rare if factors is None else rare * factors


def _shared_out(cfg: Config, records: Records) -> np.ndarray | None:
    """(N,) from 1: so often that each training set has its share of DATASETS.SHARES."""
    shares, names = np.array(cfg.DATASETS.SHARES), cfg.DATASETS.TRAIN
    if not len(shares):
        return None
    counts = np.bincount(records.part, minlength=len(names))
    if len(shares) != len(names) or not counts.all():
        raise ConfigError(
            f"DATASETS.SHARES is {cfg.DATASETS.SHARES}, DATASETS.TRAIN has {len(names)} sets of"
            f" {counts.tolist()} records; expected a number for each set, none of them empty"
        )
    each = shares / counts
    return (each / each.min())[records.part]


def test_batches(
    cfg: Config, task: Task, catalog: Catalog, name: str, fabric: Fabric
) -> TestLoader:
    """One pass over this rank's share of a data set."""
    return TestLoader(
        catalog.records(name, test_metadata(task, catalog, name)),
        task.views,
        batch_size=1 if task.clips else cfg.TEST.BATCH_SIZE,  # videos differ in length
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def test_metadata(task: Task, catalog: Catalog, name: str) -> Metadata:
    """Of a test set, in the model's classes: in another order, or some of them, by their names.

    Refused where it has a class that the model lacks.
    """
    metadata, trained = catalog.metadata(name), task.metadata
    if "entity" in task.makes or alike(metadata, trained):
        return metadata
    mapped = in_classes_of(metadata, trained)
    if mapped is None:
        ours, theirs = trained.classes, metadata.classes
        known = namesakes(metadata, trained)
        strange = tuple(c for k, c in enumerate(theirs) if k not in known)
        raise ConfigError(
            f"DATASETS.TEST {name} has {len(theirs)} classes ({_some(theirs)}), the model"
            f" {len(ours)} ({_some(ours)}), in which there is no {_some(strange) or 'second one'};"
            " expected the same names, in any order, or some of them"
        )
    logger.warning(
        "%s: its classes are found by name among the model's %d: %d in another place, %d not there",
        name,
        len(trained.classes),
        sum(a != b for a, b in zip(metadata.classes, trained.classes, strict=False)),
        len(mapped.absent),
    )
    return mapped


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
