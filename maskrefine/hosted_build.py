"""A mask head behind a frozen model of another architecture, from a config."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from maskrefine.build import NO_GRAPH, build_mask_part
from maskrefine.fpn import FPN
from maskrefine.hosted import HostedRefiner
from maskrefine.losses import MaskLosses
from maskrefine.postprocess import DetectionResults
from maskrefine.prepared import PREPARED
from maskrefine.schema import HostedInput, HostedModel
from segcore.architectures import architecture
from segcore.build.views import build_views
from segcore.config import Config, section
from segcore.contracts import ClassRows, Task
from segcore.errors import ConfigError
from segcore.import_path import import_from
from segcore.structures import Metadata, Outputs, Targets

KEY = "MODEL.HOSTED.NAME"
HOST, OWN = "host.", "refiner."  # before our names; before those of our own parts in files


def build_hosted(cfg: Config, metadata: Metadata) -> Task:
    """The host's task with masks by a head of MODEL.ROI_MASK_HEAD."""
    model, data = section(cfg, "MODEL", HostedModel), section(cfg, "INPUT", HostedInput)
    host: Task = import_from(architecture(model.HOSTED.NAME).build, KEY)(cfg, metadata)
    part = build_mask_part(
        cfg, 1 if model.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK else len(metadata.classes)
    )
    for name in part.coarse:
        part.head.get_submodule(name).requires_grad_(False)
    backbone: Any = host.model.backbone
    views = build_views(cfg, metadata, outlines=data.MASK_FORMAT == "polygon")
    if views.targets == "semantic":
        raise ConfigError(
            f"INPUT.DATASET_MAPPER_NAME {data.DATASET_MAPPER_NAME} makes label images; a refiner"
            " needs objects: mask_former_instance or coco_instance_lsj"
        )
    refiner = HostedRefiner(
        host=host.model,
        neck=FPN(backbone.channels, model.FPN.OUT_CHANNELS),
        mask_head=part.head,
        is_thing=metadata.is_thing,
        limit=cfg.TEST.DETECTIONS_PER_IMAGE,
        train_limit=model.HOSTED.TRAIN_LIMIT,
        least_overlap=model.HOSTED.MIN_IOU,
        margin=model.HOSTED.MARGIN,
    )
    rows = [f"mask_head.{name}.{kind}" for name in part.class_rows for kind in ("weight", "bias")]
    return Task(
        model=refiner,
        losses=partial(_losses, part.losses, refiner),
        postprocess=DetectionResults(tight=True),  # a region has a margin around its mask
        views=views,
        renames=partial(to_ours, host),
        official=partial(to_official, host),
        metadata=metadata,
        makes=("instance",),
        needs="segments",
        no_graph=f"{NO_GRAPH}; its host alone can be exported, with the host's own config",
        class_rows=(*host.class_rows, *(ClassRows(name=name, background=None) for name in rows)),
        query_rows=host.query_rows,
        prepared=None if host.prepared is None else {**host.prepared, **PREPARED},
        trained=host.trained,
        training_only=tuple(f"mask_head.{name}" for name in (*part.training_only, *part.coarse)),
    )


def _losses(
    masks: MaskLosses,
    refiner: HostedRefiner,
    outputs: Outputs,
    targets: list[Targets],
    counts: Any,
) -> dict[str, Any]:
    assert outputs.regions is not None
    return masks(outputs.regions, refiner.without_stuff(targets))


def to_ours(host: Task, state: Mapping[str, Any]) -> dict[str, Any]:
    """The host's names in files get a beginning, those of our own parts lose theirs."""
    own = {k.removeprefix(OWN): v for k, v in state.items() if k.startswith(OWN)}
    theirs = host.renames({k: v for k, v in state.items() if not k.startswith(OWN)})
    return {f"{HOST}{k}": v for k, v in theirs.items()} | own


def to_official(host: Task, state: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_ours`."""
    theirs = {k.removeprefix(HOST): v for k, v in state.items() if k.startswith(HOST)}
    own = {f"{OWN}{k}": v for k, v in state.items() if not k.startswith(HOST)}
    return host.official(theirs) | own
