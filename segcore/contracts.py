"""What parts promise each other. Protocols, no base classes.

Legend of one-letter names: B samples, T views, H W input pixels, h w feature cells, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from segcore.structures import Batch, Outputs, Record, Regions, Result, Sample, Targets


class Backbone(Protocol):
    """Feature maps res2..res5 in detectron2's words, fine to coarse."""

    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> one (B, C, h, w) a level."""
        ...


class SegmentationModel(Protocol):
    """A pure function of pixels; targets only for models that choose regions in training."""

    def __call__(
        self,
        images: Tensor,
        sizes: Tensor,
        targets: list[Targets] | None = None,
        aux: bool = True,
    ) -> Outputs:
        """(B, T, 3, H, W) uint8, (B, T, 2) on the CPU -> Outputs.

        `aux` False: only the last layer's prediction, which is all that results need.
        """
        ...


class PostProcessor(Protocol):
    """From logits to results at the original size."""

    def __call__(self, outputs: Outputs, batch: Batch) -> list[Result]: ...


class MaskHead(Protocol):
    """Masks inside boxes: the plain head of Mask R-CNN, or a refiner in its place."""

    def __call__(self, features: list[Tensor], regions: Regions) -> Regions:
        """Feature maps p2..p5 (B, C, h, w) and boxes -> the same boxes with what is in them.

        In training (`regions.matched` is given, all regions are foreground) `logits` and `extras`
        for the losses; else `probabilities` (R, s, s), best regions of a sample first.
        """
        ...


class ViewSampler(Protocol):
    """From an annotated file to pixels. `rng` None means test time: no randomness, no targets."""

    def __call__(self, record: Record, rng: np.random.Generator | None) -> Sample | None:
        """A sample; None in training where nothing of the record can be used."""
        ...

    def test(self, image: np.ndarray, record: Record) -> Sample:
        """Of pixels (H, W, 3) uint8 RGB that no file holds, at test time."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Made anew for every evaluation; knows nothing of ranks."""

    parts: list[Any]  # picklable; the engine gathers them onto rank 0

    def update(self, result: Result, record: Record) -> None: ...

    def compute(self) -> dict[str, float]:
        """Numbers in percent by metric name ("PQ", "AP50", "mIoU"; per class "AP-person")."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """All that train_net.py must know of an architecture."""

    model: nn.Module  # a SegmentationModel
    losses: Callable[[Outputs, list[Targets], Tensor], dict[str, Tensor]]  # weighted; Batch.counts
    postprocess: PostProcessor
    views: ViewSampler
    renames: Callable[[dict[str, Any]], dict[str, Any]]  # official state-dict names -> ours
    official: Callable[[dict[str, Any]], dict[str, Any]]  # ours -> official
    precision: torch.dtype = torch.float32  # of inference; weights and results stay float32

    def infer(self, batch: Batch, device: torch.device, aux: bool = False) -> Outputs:
        """What the model says of a batch, without gradients."""
        mixed = self.precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, self.precision, enabled=mixed):
            return self.model(batch.images.to(device), batch.sizes, aux=aux)
