"""Training the patch network with the house's trainer, by the published recipe.

Legend of one-letter names: B patches, S side of the network's input, s side of a patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from maskrefine.hrnet import PatchNetwork, resize
from maskrefine.patch_data import PatchViews
from maskrefine.patch_model import PatchSegmenter, losses
from maskrefine.patch_store import CLASSES, read_patch
from segcore.contracts import Task
from segcore.data.loader import train_loader
from segcore.data.store import Records
from segcore.engine.optim import Clipping, Schedule, make_optimizer
from segcore.engine.trainer import Trainer
from segcore.structures import Batch, Metadata, Outputs, Record, Result

PREFIX = "network."  # of our names before the official ones
BARE = re.compile(r"(conv|bn|layer|transition|stage)\d\.")  # of a network for ImageNet
RATE, LOWEST_RATE, POWER = 0.01, 1e-4, 0.9
MOMENTUM, DECAY = 0.9, 5e-4
METADATA = Metadata(
    "boundary patches",
    CLASSES,
    (0, 1),
    (False, True),
    ((0, 0, 0), (220, 60, 60)),
)


def patch_task(
    network: PatchNetwork, views: PatchViews, precision: torch.dtype = torch.float32
) -> Task:
    """All that the framework must know to train the network."""
    return Task(
        model=PatchSegmenter(network),
        losses=losses,
        postprocess=patch_results,
        views=views,
        renames=to_ours,
        official=to_official,
        metadata=METADATA,
        makes=("patch",),
        needs="segments",
        no_graph="it looks at patches of masks, which `segcore refine` cuts out of images",
        precision=precision,
    )


def to_ours(state: Mapping[str, Any]) -> dict[str, Any]:
    """Official names, and those of a bare HRNet -> the trained model's; our own stay."""
    ours = {}
    for name, value in state.items():
        name = re.sub(r"^(module\.)+", "", name)
        if BARE.match(name):
            name = f"backbone.{name}"
        ours[name if name.startswith(PREFIX) else PREFIX + name] = value
    return ours


def to_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_ours`."""
    return {k.removeprefix(PREFIX): v for k, v in state.items()}


@torch.inference_mode()
def patch_results(outputs: Outputs, batch: Batch) -> list[Result]:
    """Of each patch, at its own size, where there is foreground: Result.semantic (s, s)."""
    assert outputs.regions is not None
    (logits,) = outputs.regions.logits
    full = resize(logits.float(), batch.images.shape[-1])  # resized twice, as it is refined
    return [
        Result(semantic=resize(one[None], record.size[0])[0].argmax(0).to(torch.uint8).cpu())
        for one, record in zip(full, batch.records, strict=True)
    ]


class PatchEvaluator:
    """Mean IoU of background and foreground over all pixels of stored patches."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = [np.zeros((2, 2, 2), np.int64)]  # (before/after, ...)

    def update(self, result: Result, record: Record) -> None:
        """Count one patch, as it was and as it is refined."""
        assert result.semantic is not None
        patch = read_patch(record.frames[0].file, int(record.id))
        truth = patch.truth[0].astype(np.int64) * 2
        for i, found in enumerate((patch.coarse[0], result.semantic.numpy())):
            counts = np.bincount((truth + found).ravel(), minlength=4)
            self.parts[0][i] += counts.reshape(2, 2)

    def compute(self) -> dict[str, float]:
        """In percent: mIoU, and what it was before ("mIoU-coarse")."""
        metrics = {}
        for name, matrix in zip(("mIoU-coarse", "mIoU"), np.sum(self.parts, axis=0), strict=True):
            right = matrix.diagonal()
            union = matrix.sum(0) + matrix.sum(1) - right
            iou = right[union > 0] / union[union > 0]
            metrics[name] = 100 * float(iou.mean()) if len(iou) else float("nan")
        return metrics


def patch_evaluator(metadata: Metadata, **_: Any) -> PatchEvaluator:
    """For data sets that are stores of patches."""
    return PatchEvaluator()


def published_schedule(steps: int) -> Schedule:
    """The rate falls as a power of what is left, down to the lowest rate at the end."""
    floor = LOWEST_RATE / RATE
    return lambda step: floor + (1 - floor) * max(1 - step / steps, 0.0) ** POWER


def patch_trainer(task: Task, fabric: Any, *, steps: int = 160_000, rate: float = RATE) -> Trainer:
    """The house's trainer with the published optimizer; `fit(patch_batches(...), steps, [])`.

    Args:
        fabric: of `segcore.engine.launch`.
        steps: of the whole training, for the schedule.
        rate: at its start; published for 32 patches a step.
    """
    parameters: dict[str, object] = {"params": list(task.model.parameters())}
    # weight decay is for all parameters alike
    groups = [parameters | {"lr": rate, "weight_decay": DECAY}]
    optimizer = make_optimizer("SGD", groups, MOMENTUM)
    return Trainer(task, optimizer, published_schedule(steps), fabric, clipping=Clipping(limit=0.0))


def patch_batches(
    task: Task, records: Sequence[Record], *, batch_size: int = 32, seed: int = 0, **options: Any
) -> Iterator[Batch]:
    """Endless batches of records that `task.views` makes patches of.

    Args:
        options: of `segcore.data.loader.train_loader`: rank, world_size, num_workers, start.
    """
    packed = records if isinstance(records, Records) else Records(records)
    return train_loader(
        packed, task.views, batch_size=batch_size, seed=seed, group_by_aspect=False, **options
    )
