"""A task small enough to work out by hand: one linear layer from colours to one mask logit."""

from functools import partial

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from segcore.contracts import Task
from segcore.engine.optim import Clipping, poly
from segcore.engine.trainer import Trainer
from segcore.structures import (
    Batch,
    Frame,
    Metadata,
    Outputs,
    Prediction,
    Record,
    Result,
    Sample,
    Targets,
)

FREE = Clipping(limit=0.0)
FLAT = poly(max_iter=100, power=0.0, ending=0.0, warmup=(0, 1.0, "linear"))


class Linear(nn.Module):
    """Each pixel's colour -> one mask logit; one query, one class."""

    def __init__(self):
        super().__init__()
        self.color = nn.Linear(3, 1)
        self.label = nn.Parameter(torch.zeros(2))

    def forward(self, images, sizes, targets=None, aux=True):
        """(B, T, 3, H, W) -> one layer's prediction."""
        pixels = images.float().movedim(2, -1) / 255  # (B, T, H, W, 3)
        masks = self.color(pixels)[..., 0][:, None]  # (B, 1, T, H, W)
        return Outputs([Prediction(self.label.expand(len(images), 1, 2), masks)])


def losses(outputs, targets, counts, breaks=()):
    """Squared error per segment over the number of segments, and a mean over samples."""
    layer = outputs.layers[-1]
    error = sum(
        ((masks.sigmoid() - target.masks.float()) ** 2).mean((1, 2, 3)).sum()
        for masks, target in zip(layer.masks, targets, strict=True)
    )
    weak = any(int(t.labels.sum()) in breaks for t in targets)
    mask = error / counts[0]
    return {
        "loss_ce": (layer.logits**2).mean() + (layer.logits - 1).square().mean(),
        "loss_mask_0": mask * float("nan") if weak else mask,
    }


def postprocess(outputs, batch):
    """The mask above one half, as a semantic map."""
    masks = outputs.layers[-1].masks[:, 0, 0] > 0
    return [Result(semantic=mask.to(torch.uint8)) for mask in masks]


def make_task(seed=0, breaks=()):
    torch.manual_seed(seed)
    return Task(
        model=Linear(),
        losses=partial(losses, breaks=breaks),
        postprocess=postprocess,
        views=None,
        renames=dict,
        official=dict,
        metadata=Metadata("fake", ("thing",), (1,), (True,), ((0, 0, 0),)),
        makes=("semantic",),
    )


def sample(number, num_segments=None, label=0):
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 4)) if num_segments is None else num_segments
    views = torch.from_numpy(rng.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8))
    masks = torch.from_numpy(rng.random((count, 1, 32, 32)) > 0.5)
    labels = torch.full((count,), label)
    targets = Targets(labels, masks, torch.ones(count, 1, dtype=torch.bool))
    record = Record(f"image {number}", (32, 32), (Frame(f"{number}.png"),))
    size = torch.tensor([[32, 32]])
    return Sample(views, size, torch.tensor([[0, 0, 32, 32]]), targets, record)


def batch(*numbers, **options):
    return Batch.collate([sample(n, **options) for n in numbers])


def make_fabric(precision="32-true"):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    fabric.launch()
    return fabric


def make_trainer(task=None, kind=torch.optim.SGD, rate=1.0, schedule=FLAT, **options):
    task = task or make_task()
    optimizer = kind(task.model.parameters(), lr=rate)
    return Trainer(task, optimizer, schedule, make_fabric(), **({"clipping": FREE} | options))


def endless(*batches):
    while True:
        yield from batches
