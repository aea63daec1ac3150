"""Training of the patch network from a config."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from maskrefine.hrnet import VARIANTS, PatchNetwork
from maskrefine.patch_data import CoarseMask, PatchViews, PredictedMasks, any_patch, degraded_truth
from maskrefine.patch_training import METADATA, patch_task
from maskrefine.schema import Bpr
from maskrefine.truth import match_instances, sample_instances
from segcore.build.data import catalog
from segcore.build.views import flips, refuse_swaps, refuse_turns
from segcore.config import Config, section
from segcore.contracts import Task
from segcore.data.store import Records
from segcore.predictions.read import read_predictions
from segcore.structures import Metadata
from segcore.user_path import user_path


def patch_classes(cfg: Config) -> Metadata:
    """Background and foreground, whatever the classes of the images are."""
    return METADATA


def build_patches(cfg: Config, metadata: Metadata) -> Task:
    """The patch network, trained on stored patches or on fresh ones of annotated images."""
    refuse_turns(cfg)
    refuse_swaps(cfg)
    bpr = section(cfg, "MODEL.BPR", Bpr)
    network = PatchNetwork(replace(VARIANTS[bpr.NETWORK], input_size=bpr.INPUT_SIZE))
    patch_of = partial(
        any_patch,
        coarse=coarse_masks(cfg, metadata),
        iou_threshold=bpr.IOU_THRESHOLD,
        size=bpr.PATCH_SIZE,
    )
    views = PatchViews(input_size=bpr.INPUT_SIZE, patch_of=patch_of, mirror=flips(cfg))
    return patch_task(network, views)


def coarse_masks(cfg: Config, metadata: Metadata) -> CoarseMask:
    """Where the coarse masks of annotated images come from.

    Args:
        metadata: classes of the training images; of patches where there are none.
    """
    bpr = section(cfg, "MODEL.BPR", Bpr)
    if not bpr.PREDICTIONS or metadata.classes == METADATA.classes:
        return degraded_truth
    sets = catalog(cfg)
    records = Records.join([sets.read(name) for name in cfg.DATASETS.TRAIN])
    instances = match_instances(
        read_predictions(user_path(bpr.PREDICTIONS)), records, metadata, min_iou=bpr.MIN_IOU
    )
    if bpr.SAMPLE_INSTANCES:
        instances = sample_instances(instances, bpr.SAMPLE_INSTANCES)
    return PredictedMasks.of(instances, records)
