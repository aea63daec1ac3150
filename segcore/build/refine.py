"""Mask refiners that go behind any model's masks, by the name of TEST.REFINE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from segcore.config import Config
from segcore.contracts import MaskRefiner, Task
from segcore.import_path import choose, import_from
from segcore.refined import RefinedInference
from segcore.schema import Refine

KEY = "TEST.REFINE.NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refiner:
    """Where a refiner's parts stand, as "package.module:attribute".

    Args:
        masks: (weights, *, device, **options) -> a MaskRefiner.
        files: (weights, predictions, output, **options) -> what became of a file of predictions,
            as `segcore refine` says.
        data: (output, records, metadata, **options) -> how many samples of training were written,
            as `segcore cut-patches` says.
    """

    masks: str
    files: str
    data: str


REFINERS = {
    "bpr": Refiner(
        masks="maskrefine.patch_weights:build_mask_refiner",
        files="maskrefine.refine_files:refine_files",
        data="maskrefine.patch_cutting:write_training_patches",
    ),
}


def build_refiner(wanted: Refine, device: torch.device, *, prepare: bool) -> MaskRefiner | None:
    """The one of TEST.REFINE, None without weights; NAME may be "package.module:function".

    Args:
        prepare: TEST.PREPARE, faster layers on a CPU.
    """
    if not wanted.WEIGHTS:
        return None
    entry = choose(REFINERS, wanted.NAME, KEY)
    build: Callable[..., MaskRefiner] = (
        import_from(entry.masks, KEY) if isinstance(entry, Refiner) else entry
    )
    return build(
        wanted.WEIGHTS,
        device=device,
        iou_threshold=wanted.IOU_THRESHOLD,
        numerics=wanted.NUMERICS,
        batch_size=wanted.BATCH_SIZE or None,
        least_area=wanted.LEAST_AREA,
        prepare=prepare,
    )


def build_refined_inference(
    cfg: Config, task: Task, device: torch.device
) -> RefinedInference | None:
    """Inference of a task with TEST.REFINE behind it; None without its weights."""
    refine = build_refiner(cfg.TEST.REFINE, device, prepare=cfg.TEST.PREPARE)
    return None if refine is None else RefinedInference(task, refine, device)


def refine_files(name: str, *given: Any, **options: Any) -> Any:
    """What the refiner of that name does to a file or folder of predictions."""
    return import_from(choose(REFINERS, name, KEY).files, KEY)(*given, **options)


def write_training_data(name: str, *given: Any, **options: Any) -> int:
    """Write what the refiner of that name is trained on; how many samples there are."""
    return import_from(choose(REFINERS, name, KEY).data, KEY)(*given, **options)
