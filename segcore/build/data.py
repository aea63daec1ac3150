"""Data sets, and batches of them, as a config names them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from segcore.architectures import KEY, architecture
from segcore.config import Config
from segcore.contracts import Task
from segcore.data.catalog import dataset_metadata, load_dataset
from segcore.data.loader import TestLoader, train_loader
from segcore.data.store import Records
from segcore.engine.launch import Fabric
from segcore.errors import ConfigError, DataError
from segcore.import_path import import_from
from segcore.structures import Batch, Metadata

logger = logging.getLogger(__name__)


def data_root() -> Path:
    """DETECTRON2_DATASETS, or ./datasets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


def catalogs(cfg: Config) -> list[Path]:
    """Further catalogue files of the user."""
    return [Path(path).expanduser() for path in cfg.DATASETS.CATALOGS]


def train_metadata(cfg: Config) -> Metadata:
    """Classes of the first training set, or of the first test set where there is none."""
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise ConfigError(
            "DATASETS.TRAIN is empty; name a data set of the catalogue, or give the path of an"
            " annotation file"
        )
    return dataset_metadata(names[0], data_root(), catalogs(cfg))


def known_classes(cfg: Config) -> Metadata | None:
    """Classes that the architecture has whatever its data is, as entities are one; else None."""
    path = architecture(cfg.MODEL.META_ARCHITECTURE).classes
    return import_from(path, KEY)(cfg) if path else None


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
    if known_classes(cfg):
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
