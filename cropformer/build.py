"""CropFormer, and Mask2Former for entities, from a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from cropformer import weights
from cropformer.cpu_training import TRAINED
from cropformer.decoder import CropDecoder
from cropformer.graph_results import EntityResults
from cropformer.model import CropFormer
from cropformer.postprocess import EntityPostProcess
from cropformer.prepared import PREPARED
from cropformer.schema import Entity
from cropformer.views import CropViews
from mask2former.build import (
    CLASS_ROWS,
    QUERY_ROWS,
    build,
    build_criterion,
    build_decoder,
    build_pixel_decoder,
    duplicates_of,
    former_of,
)
from mask2former.criterion import Criterion
from segcore.build.backbone import build_backbone
from segcore.build.solver import backbone_rate
from segcore.build.views import build_views as build_still_views
from segcore.build.views import flips, refuse_swaps, refuse_turns, train_sizes
from segcore.config import Config, section
from segcore.contracts import Task
from segcore.errors import ConfigError
from segcore.structures import Metadata, Outputs, Targets

Losses = Callable[[Outputs, list[Targets], Tensor], dict[str, Tensor]]

PER_VIEW = 0.5  # weight of the first pass's losses; a constant of the published code


def build_mask_former(cfg: Config, metadata: Metadata) -> Task:
    """Mask2Former, for entities where the config says so."""
    return (build_plain if entity_of(cfg).ENABLE else build)(cfg, metadata)


def entity_classes(cfg: Config) -> Metadata | None:
    """The one class of entities, where the config says that it is about them."""
    if not entity_of(cfg).ENABLE:
        return None
    return Metadata("entities", (), (), (), ()).as_entities()


def entity_of(cfg: Config) -> Entity:
    """ENTITY."""
    return section(cfg, "ENTITY", Entity)


def build_plain(cfg: Config, metadata: Metadata) -> Task:
    """Mask2Former for entities: one class, results without overlap."""
    task = build(cfg, metadata.as_entities())
    return replace(
        task,
        losses=partial(_agnostic, task.losses),
        postprocess=EntityPostProcess(cfg.TEST.DETECTIONS_PER_IMAGE, duplicates=duplicates_of(cfg)),
        views=build_still_views(cfg, metadata),  # files keep their classes
        makes=("entity",),
        average=None,
        graph_results=None if duplicates_of(cfg) else EntityResults(cfg.TEST.DETECTIONS_PER_IMAGE),
    )


def build_crops(cfg: Config, metadata: Metadata) -> Task:
    """CropFormer: the whole image and crops of it."""
    entity, former = entity_of(cfg), former_of(cfg)
    if not entity.ENABLE:
        raise ConfigError(
            "MODEL.META_ARCHITECTURE CropFormer works on entities: ENTITY.ENABLE true"
        )
    if entity.FUSE_ENC_HIDDIEN_DIM != former.HIDDEN_DIM:
        raise ConfigError(
            f"ENTITY.FUSE_ENC_HIDDIEN_DIM {entity.FUSE_ENC_HIDDIEN_DIM} must equal"
            f" MODEL.MASK_FORMER.HIDDEN_DIM {former.HIDDEN_DIM}: they share queries"
        )
    backbone = build_backbone(cfg)
    model = CropFormer(
        backbone=backbone,
        pixel_decoder=build_pixel_decoder(cfg, backbone),
        decoder=CropDecoder(
            build_decoder(cfg, num_classes=1),
            dim=former.HIDDEN_DIM,
            num_heads=entity.FUSE_ENC_NHEADS,
            ffn_dim=entity.FUSE_ENC_DIM_FEEDFORWARD,
            num_fusion_layers=entity.FUSE_NUM_LAYERS,
        ),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )
    return Task(
        model=model,
        losses=crop_losses(build_criterion(cfg)),
        postprocess=EntityPostProcess(duplicates=duplicates_of(cfg)),
        views=build_views(cfg, metadata),
        renames=weights.to_ours,
        official=weights.to_official,
        metadata=metadata.as_entities(),
        makes=("entity",),
        graph_results=None if duplicates_of(cfg) else EntityResults(),
        needs="segments",
        class_rows=CLASS_ROWS,
        query_rows=QUERY_ROWS,
        rates=backbone_rate(cfg),
        prepared=PREPARED,
        trained=TRAINED,
    )


def build_views(cfg: Config, metadata: Metadata) -> CropViews:
    """The whole image and its windows."""
    entity = entity_of(cfg)
    refuse_turns(cfg)
    refuse_swaps(cfg)
    return CropViews(
        metadata=metadata,
        sizes=train_sizes(cfg),
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        min_size_test=cfg.INPUT.MIN_SIZE_TEST,
        max_size_test=cfg.INPUT.MAX_SIZE_TEST,
        crop=entity.CROP_AREA_RATIO,
        stride=entity.CROP_STRIDE_RATIO,
        num_train=entity.CROP_SAMPLE_NUM_TRAIN,
        num_test=entity.CROP_SAMPLE_NUM_TEST,
        flip=flips(cfg),
    )


def crop_losses(criterion: Criterion) -> Losses:
    """Of both passes, as a Task has them."""
    return partial(_agnostic, partial(_both_passes, criterion))


def _agnostic(
    losses: Losses, outputs: Outputs, targets: list[Targets], counts: Tensor
) -> dict[str, Tensor]:
    """Every segment is of the one class."""
    alike = [replace(t, labels=torch.zeros_like(t.labels)) for t in targets]
    return losses(outputs, alike, counts)


def _both_passes(
    criterion: Criterion, outputs: Outputs, targets: list[Targets], counts: Tensor
) -> dict[str, Tensor]:
    """60 terms: views alone at half weight (`_2d`), then jointly (`_3d`)."""
    stills = [view for target in targets for view in target.per_view()]
    alone = criterion(outputs.per_view, stills, counts[1])
    joint = criterion(outputs.layers, targets, counts[0])
    halved = (PER_VIEW * torch.stack(list(alone.values()))).unbind()
    named = {f"{name}_2d": value for name, value in zip(alone, halved, strict=True)}
    return named | {f"{name}_3d": value for name, value in joint.items()}
